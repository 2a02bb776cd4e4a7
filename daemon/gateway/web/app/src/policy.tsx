import { get, type Policy } from './api';
import { date, lang, t } from './i18n';
import { Markdown } from './markdown';
import { Show, useLoad } from './ui';

export const usePolicy = () => useLoad(() => get<Policy>(`/v1/policy?lang=${lang.value}`), [lang.value]);

/** The policy's text, readable in place. */
export function PolicyText({ of }: { of: ReturnType<typeof usePolicy> }) {
  return (
    <Show of={of}>
      {(p) => (
        <>
          <p class="hint">{t('policy.revision', { revision: p.revision, date: date(p.modified) })}</p>
          <div class="policy" tabIndex={0} role="region" aria-label={t('policy.title')} lang={p.lang === 'zh' ? 'zh-CN' : p.lang}>
            <Markdown text={p.text} />
          </div>
        </>
      )}
    </Show>
  );
}
