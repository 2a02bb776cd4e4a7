import { get, type Damaged, type Me, type Storage } from './api';
import { Icon } from './icons';
import { date, number, percent, size, t } from './i18n';
import { href } from './route';
import { Head, Note, Show, useLoad } from './ui';

export function StoragePage() {
  const storage = useLoad(async () => ({ ...(await get<Storage>('/v1/storage')), usage: (await get<Me>('/v1/me')).usage }), []);
  return (
    <>
      <Head title={t('storage.title')} text={t('storage.text')} />
      <Show of={storage}>
        {(s) => (
          <>
            <section class="card">
              <div class="card-head">
                <h2>{t('storage.disk')}</h2>
                <span class="big">{t('storage.free', { free: size(s.disk.free) })}</span>
              </div>
              <Bar label={t('storage.disk')} parts={[
                { kind: 'mine', label: t('storage.mine'), bytes: s.mine.distinct_bytes },
                { kind: 'rest', label: t('storage.other'), bytes: Math.max(0, s.disk.total - s.disk.free - s.mine.distinct_bytes) },
                { kind: 'free', label: t('storage.freeShort'), bytes: s.disk.free },
              ]} />
              <p class="hint">{secondCopy(s.second_copy)}</p>
            </section>
            <section class="card">
              <h2>{t('storage.mine')}</h2>
              <dl class="figures">
                <div><dt>{t('storage.items')}</dt><dd>{number(s.mine.items)}</dd></div>
                <div><dt>{t('storage.bytes')}</dt><dd>{size(s.mine.bytes)}</dd></div>
                <div><dt>{t('storage.distinct')}</dt><dd>{size(s.mine.distinct_bytes)}</dd></div>
                <div class="good"><dt>{t('storage.saved')}</dt><dd>{size(s.mine.saved_bytes)}</dd></div>
                {s.usage.quota !== null && <div><dt>{t('storage.quota')}</dt><dd>{t('storage.quotaOf', { used: percent(s.usage.bytes, s.usage.quota), quota: size(s.usage.quota) })}</dd></div>}
              </dl>
              <p class="hint">{t('storage.savedText')}</p>
            </section>
            <section class="card">
              <div class="card-head">
                <h2>{t('dups.title')}</h2>
                <a class="button plain" href={href('duplicates')}><Icon name="copy" /><span>{t('dups.open')}</span></a>
              </div>
              <p class="hint">{t('dups.text')}</p>
            </section>
            <Care of={s.care} />
            {s.box && (
              <section class="card">
                <h2>{t('storage.box')}</h2>
                <dl class="figures">
                  <div><dt>{t('storage.items')}</dt><dd>{number(s.box.items)}</dd></div>
                  <div><dt>{t('storage.bytes')}</dt><dd>{size(s.box.logical_bytes)}</dd></div>
                  <div><dt>{t('storage.blobs')}</dt><dd>{number(s.box.blobs)}</dd></div>
                  <div><dt>{t('storage.distinct')}</dt><dd>{size(s.box.physical_bytes)}</dd></div>
                  <div class="good"><dt>{t('storage.saved')}</dt><dd>{size(s.box.saved_bytes)}</dd></div>
                </dl>
                <p class="hint">{t('storage.boxText')}</p>
              </section>
            )}
          </>
        )}
      </Show>
    </>
  );
}

const DAY = 24 * 60 * 60 * 1000;

/** Whether what is stored is still what was sent. */
function Care({ of }: { of: Storage['care'] }) {
  return (
    <section class="card">
      <h2>{t('storage.care')}</h2>
      {of.disk !== 'ok' && <Note kind="warn">{of.disk === 'failed' ? t('storage.diskFailed') : t('storage.diskReadOnly')}</Note>}
      {of.damaged > 0 && <DamagedFiles n={of.damaged} />}
      <dl class="figures">
        {of.oldest_unverified && (
          <div><dt>{t('storage.oldest')}</dt><dd>{t('storage.days', { n: Math.max(0, Math.floor((Date.now() - Date.parse(of.oldest_unverified)) / DAY)) })}</dd></div>
        )}
        {of.scrubbed && <div><dt>{t('storage.scrubbed')}</dt><dd>{date(of.scrubbed)}</dd></div>}
      </dl>
      <p class="hint">{of.scrub_days > 0 ? t('storage.careText', { n: of.scrub_days }) : t('storage.careOff')}</p>
    </section>
  );
}

/** What the box lost and asks for again. */
function DamagedFiles({ n }: { n: number }) {
  const list = useLoad(() => get<Damaged>('/v1/damaged'), []);
  return (
    <Note kind="warn">
      <p>{t('storage.damaged', { n })}</p>
      <Show of={list}>
        {(l) => <ul>{l.files.slice(0, 20).map((f) => <li>{f.item.path}</li>)}</ul>}
      </Show>
    </Note>
  );
}

/** How the box's copy on another disk stands, in one sentence. */
function secondCopy(c: Storage['second_copy']): string {
  if (c === null) return t('storage.copyNone');
  const when = date(c.time);
  if (!c.complete) return t('storage.copyPartly', { when });
  return c.current ? t('storage.copyCurrent', { when }) : t('storage.copyDone', { when });
}

interface Part { kind: 'mine' | 'rest' | 'free'; label: string; bytes: number }

/** One bar of parts, and the same as text below it. */
function Bar({ label, parts }: { label: string; parts: Part[] }) {
  const whole = parts.reduce((n, p) => n + p.bytes, 0) || 1;
  let x = 0;
  return (
    <figure class="bar-figure">
      <svg class="bar-chart" role="img" aria-label={label} preserveAspectRatio="none" viewBox="0 0 1000 10">
        {parts.map((p) => {
          const w = (p.bytes / whole) * 1000;
          const r = <rect class={p.kind} x={x} y={0} width={w > 0 ? Math.max(w, 4) : 0} height={10} />;
          x += w;
          return r;
        })}
      </svg>
      <figcaption>
        <ul class="legend">
          {parts.map((p) => <li><span class={'dot ' + p.kind} />{p.label} <strong>{size(p.bytes)}</strong></li>)}
        </ul>
      </figcaption>
    </figure>
  );
}
