import { t, word } from '../i18n';
import { href } from '../route';
import { useStore } from '../store';
import { Button } from '../ui';
import { stop, work } from './work';

export function Bar() {
  const p = work.value?.progress;
  const [n, of] = p && p.of_bytes > 0 ? [p.bytes, p.of_bytes] : p && p.of_files > 0 ? [p.files, p.of_files] : [0, 0];
  // Without a value it moves on its own: nobody knows yet how much there is.
  return <progress class="progress" aria-label={t('dups.working')} max={of || 1} {...(of > 0 ? { value: n } : {})} />;
}

/** The same in one line, on every other page. */
export function WorkBar() {
  const w = useStore(work);
  if (!w) return null;
  return (
    <aside class="work-bar" aria-label={t('dups.working')}>
      <a href={href('duplicates')}>{w.progress ? word('stage', w.progress.stage) : t('dups.starting')}</a>
      <Bar />
      <Button kind="quiet" icon="close" onClick={stop}>{t('dups.stop')}</Button>
    </aside>
  );
}
