import { useEffect, useState } from 'preact/hooks';
import { call, get, type Consent, type Purpose, type Receipt } from './api';
import { decide, heard, newest, onDevice, stateOf, useConsents, type Consents } from './decide';
import { Icon } from './icons';
import { dateTime, lang, t, word } from './i18n';
import { PolicyText } from './policy';
import { Background, Decline, WhatIsNew } from './revisions';
import { route } from './route';
import { refresh, session } from './session';
import { Button, Dialog, Empty, Head, ProblemNote, save, say, Show, Switch, useAct, useLoad } from './ui';

export function ConsentsPage() {
  const consents = useConsents();
  return (
    <>
      <Head title={t('consents.title')} text={t('consents.text')} />
      <Show of={consents}>
        {(c) => (
          <>
            <p class="hint"><a href="#/guardian">{t('guardian.go')}</a>: {t(session.value.me!.role === 'child' ? 'guardian.child' : 'guardian.adult')}</p>
            <PolicyCard consents={c} changed={consents.reload} />
            <PurposeList consents={c} changed={consents.reload} />
            <Receipts purposes={c.purposes} states={c.states} />
            <Later purposes={c.purposes} />
            <Background />
          </>
        )}
      </Show>
    </>
  );
}

/** The policy and the core service that rests on it: accepting is consenting to storage, and is taken back here too. */
export function PolicyCard({ consents: c, changed, open }: { consents: Consents; changed: () => void; open?: boolean }) {
  const [read, setRead] = useState(false);
  const [unticked, setUnticked] = useState(false);
  const act = useAct();
  const core = c.purposes.find((p) => p.core);
  const state = core && stateOf(c, core.id);
  const accepted = state ? state.granted : c.policy.accepted?.revision === c.policy.revision;
  const when = state?.time ?? c.policy.accepted?.time;
  const first = (state?.state ?? 'never') === 'never'; // the age is asked once
  const accept = () => {
    if (!read) {
      setUnticked(true);
      return;
    }
    void act.run(async () => {
      try {
        await heard(call('PUT', '/v1/policy', { accepted: true, revision: c.policy.revision, after: newest(c.states, core?.id ?? ''), ...(first && { fourteen: true }) }));
        await refresh();
      } finally { // what was decided elsewhere meanwhile is to be seen, and ticked anew
        setRead(false);
        changed();
      }
      say(t('policy.saidYes'));
    });
  };
  const withdraw = () =>
    act.run(async () => {
      await call('DELETE', '/v1/consents/' + encodeURIComponent(core!.id));
      await refresh();
      changed();
      say(t('policy.saidNo'));
    });
  return (
    <section class="card" id={core ? 'purpose-' + core.id : undefined}>
      <div class="card-head">
        <h2>{t('policy.title')}</h2>
        <span class={accepted ? 'tag good' : 'tag'}>{t(accepted ? 'policy.yes' : 'policy.no')}</span>
      </div>
      <WhatIsNew of={c.policy.standing} changes={c.changes} />
      {core && <p>{core.what}</p>}
      <details class="more" open={open || undefined}>
        <summary>{t('policy.read')}</summary>
        <PolicyText of={{ value: c.policy, problem: null, busy: false, reload: changed }} />
      </details>
      {act.problem && <ProblemNote problem={act.problem} />}
      {accepted ? (
        <div class="row-end">
          <p class="hint">{t('policy.acceptedAt', { revision: c.policy.accepted?.revision ?? c.policy.revision, time: when ? dateTime(when) : '' })}</p>
          {core && <Button busy={act.busy} onClick={withdraw}>{t('policy.withdraw')}</Button>}
        </div>
      ) : (
        <div class="accept">
          <label class="check">
            <input
              type="checkbox" checked={read} aria-invalid={unticked} aria-describedby={unticked ? 'untick' : undefined}
              onChange={(e) => { setRead(e.currentTarget.checked); setUnticked(false); }}
            />
            <span>{t(first ? 'guardian.tick' : 'policy.tick', { revision: c.policy.revision })}</span>
          </label>
          {first && <p class="hint">{t('guardian.younger')}</p>}
          {unticked && <p class="error" id="untick" role="alert">{t('policy.tickFirst')}</p>}
          <Button kind="main" busy={act.busy} onClick={accept}>{t('policy.accept')}</Button>
        </div>
      )}
      <Decline consents={c} changed={changed} />
    </section>
  );
}

/** Every purpose with its words and its switch. Nothing is on that the person has not set. */
export function PurposeList({ consents: c, changed }: { consents: Consents; changed: () => void }) {
  return (
    <section aria-label={t('consents.purposes')}>
      <h2 class="section-title">{t('consents.purposes')}</h2>
      <p class="section-text">{t('consents.purposesText')}</p>
      <div class="purposes">
        {c.purposes.filter((p) => !p.core && p.available).map((p) => <PurposeCard key={p.id} consents={c} purpose={p} changed={changed} />)}
      </div>
    </section>
  );
}

function PurposeCard({ consents: c, purpose: p, changed }: { consents: Consents; purpose: Purpose; changed: () => void }) {
  const act = useAct();
  const state = stateOf(c, p.id);
  const wanted = route.value.page === 'consents' && route.value.rest === p.id;
  useEffect(() => {
    if (wanted) document.getElementById('purpose-' + p.id)?.scrollIntoView({ block: 'center' });
  }, [wanted]);
  const set = (granted: boolean, device: string | null) =>
    void act.run(async () => {
      await decide(c, p.id, granted, device).finally(changed);
      say(t(granted ? 'consents.saidYes' : 'consents.saidNo', { purpose: p.title }));
    });
  return (
    <article class={wanted ? 'card purpose wanted' : 'card purpose'} id={'purpose-' + p.id}>
      <div class="purpose-head">
        <div>
          <h3>{p.title}</h3>
          <div class="tags">
            <StateTag state={state?.state ?? 'never'} />
            {p.sensitive && <span class="tag warn">{t('consents.sensitive')}</span>}
          </div>
        </div>
        <Switch label={p.title} checked={state?.granted ?? false} busy={act.busy} onChange={(on) => set(on, null)} />
      </div>
      <p>{p.what}</p>
      <dl class="facts">
        <div><dt>{t('consents.data')}</dt><dd>{p.data.join(t('listSeparator'))}</dd></div>
        <div><dt>{t('consents.retention')}</dt><dd>{p.retention}</dd></div>
        <div><dt>{t('revision.erased')}</dt><dd>{p.erased}</dd></div>
        <div><dt>{t('consents.processor')}</dt><dd>{p.processor}</dd></div>
        {p.without && <div><dt>{t('consents.without')}</dt><dd>{p.without}</dd></div>}
        <div><dt>{t('revision.clauses')}</dt><dd>{t('revision.clause', { clauses: p.clauses.join(t('listSeparator')) })}</dd></div>
        {state?.time && <div><dt>{t('consents.since')}</dt><dd>{dateTime(state.time)}</dd></div>}
      </dl>
      {p.per_device && c.devices.length > 0 && (
        <details class="more">
          <summary>{t('consents.perDevice')}</summary>
          {c.devices.map((d) => (
            <div class="device-row" key={d.id}>
              <span><Icon name="device" /> {d.name}</span>
              <Switch label={`${p.title}: ${d.name}`} checked={onDevice(c, p.id, d.id)} busy={act.busy} onChange={(on) => set(on, d.id)} />
            </div>
          ))}
        </details>
      )}
      {act.problem && <ProblemNote problem={act.problem} />}
    </article>
  );
}

function StateTag({ state }: { state: Consent['state'] }) {
  return <span class={`tag ${state === 'granted' ? 'good' : state === 'suspended' ? 'warn' : ''}`}>{word('state', state)}</span>;
}

/** Purposes that a later version of the box will ask for: nothing to decide yet. */
function Later({ purposes }: { purposes: Purpose[] }) {
  const later = purposes.filter((p) => !p.core && !p.available);
  if (later.length === 0) return null;
  return (
    <details class="card more-card">
      <summary><h2>{t('consents.later')}</h2></summary>
      <p>{t('consents.laterText')}</p>
      <ul class="plain-list">
        {later.map((p) => <li><strong>{p.title}</strong><p class="hint">{p.what}</p></li>)}
      </ul>
    </details>
  );
}

function Receipts({ purposes, states }: { purposes: Purpose[]; states: Consent[] }) {
  // Decisions change the states, so receipts are asked for again with them.
  const receipts = useLoad(async () => (await get<{ receipts: Receipt[] | null }>('/v1/consents/receipts')).receipts ?? [], [states]);
  const [shown, show] = useState<Receipt | null>(null);
  const title = (r: Receipt) => purposes.find((p) => p.id === r.purpose.id)?.title ?? r.purpose.title[lang.value] ?? r.purpose.id;
  return (
    <section class="card">
      <h2>{t('receipts.title')}</h2>
      <p>{t('receipts.text')}</p>
      <Show of={receipts}>
        {(list) => list.length === 0 ? <Empty icon="receipt" title={t('receipts.none')} /> : (
          <ul class="lines">
            {[...list].sort((a, b) => b.event.time.localeCompare(a.event.time)).map((r) => (
              <li key={r.record_id}>
                <span class="line-main">
                  <strong>{title(r)}</strong>
                  <small>{decision(r)} · {dateTime(r.event.time)}</small>
                </span>
                <span class="line-acts">
                  <Button kind="quiet" onClick={() => show(r)}>{t('receipts.view')}</Button>
                  <Button kind="quiet" icon="download" aria-label={t('receipts.download')} onClick={() => keep(r)} />
                </span>
              </li>
            ))}
          </ul>
        )}
      </Show>
      {shown && (
        <Dialog title={t('receipts.one')} onClose={() => show(null)} wide>
          <dl class="facts">
            <div><dt>{t('receipts.purpose')}</dt><dd>{title(shown)}</dd></div>
            <div><dt>{t('receipts.decision')}</dt><dd>{decision(shown)}</dd></div>
            <div><dt>{t('consents.since')}</dt><dd>{dateTime(shown.event.time)}</dd></div>
            <div><dt>{t('policy.title')}</dt><dd>{t('receipts.revision', { revision: shown.privacy_notice.revision })}</dd></div>
          </dl>
          <p class="hint">{t('receipts.about')}</p>
          <details class="more"><summary>{t('receipts.whole')}</summary><pre tabIndex={0}>{JSON.stringify(shown, null, 2)}</pre></details>
          <div class="row-end"><Button kind="main" icon="download" onClick={() => keep(shown)}>{t('receipts.download')}</Button></div>
        </Dialog>
      )}
    </section>
  );
}

const decision = (r: Receipt) => (r.event.state === 'declined' ? t('revision.no') : t(r.event.state === 'granted' ? 'receipts.granted' : 'receipts.withdrawn'));

const keep = (r: Receipt) =>
  save(JSON.stringify(r, null, 2) + '\n', 'application/json', `yunbox-receipt-${r.purpose.id}-${r.event.time.slice(0, 19).replace(/:/g, '')}.json`);
