import { useState } from 'preact/hooks';
import { call, get, type Changes, type Revision } from './api';
import type { Consents } from './decide';
import { date, lang, t } from './i18n';
import { href } from './route';
import { refresh } from './session';
import { Button, Note, ProblemNote, say, Show, useAct, useLoad } from './ui';

/** What is new, revision by revision. */
function List({ of }: { of: Revision[] }) {
  return (
    <>
      {of.map((r) => (
        <div key={r.revision}>
          <strong>{t('policy.revision', { revision: r.revision, date: date(r.modified) })}</strong>
          <ul>{r.changes.map((c) => <li>{c}</li>)}</ul>
        </div>
      ))}
    </>
  );
}

/** To whom the policy has changed or who declined it: what is new, and what is left. */
export function WhatIsNew({ of: c, changes }: { of: string | null; changes: Changes }) {
  if (c !== 'behind' && c !== 'declined') return null;
  return (
    <Note kind="warn" icon="warn">
      <strong>{t(c === 'behind' ? 'revision.changed' : 'revision.declined')}</strong>
      <List of={changes.revisions} />
      {changes.wider.length > 0 && <p>{t('revision.wider')}</p>}
      <p>{t('revision.left')} <a href={href('data')}>{t('revision.data')}</a></p>
    </Note>
  );
}

/** Saying no to the policy as a whole, in two steps. */
export function Decline({ consents: c, changed }: { consents: Consents; changed: () => void }) {
  const [sure, ask] = useState(false);
  const act = useAct();
  if (c.policy.standing === 'declined') return null;
  const decline = () =>
    act.run(async () => {
      await call('PUT', '/v1/policy', { accepted: false, revision: c.policy.revision });
      await refresh();
      ask(false);
      changed();
      say(t('revision.saidNo'));
    });
  return (
    <div>
      {act.problem && <ProblemNote problem={act.problem} />}
      {!sure ? <Button kind="quiet" onClick={() => ask(true)}>{t('revision.decline')}</Button> : (
        <Note kind="warn" icon="warn">
          <p>{t('revision.sure')}</p>
          <div class="row-end"><Button onClick={() => ask(false)}>{t('cancel')}</Button><Button kind="main" busy={act.busy} onClick={() => void decline()}>{t('revision.decline')}</Button></div>
        </Note>
      )}
    </div>
  );
}

interface Act { id: string; what: string; clause: string }

function Texts() {
  const all = useLoad(async () => {
    const [{ revisions }, { exceptions }] = await Promise.all([
      get<{ revisions: Revision[] }>(`/v1/policy/revisions?lang=${lang.value}`),
      get<{ exceptions: Act[] }>(`/v1/policy/exceptions?lang=${lang.value}`),
    ]);
    return { revisions, exceptions };
  }, [lang.value]);
  return (
    <Show of={all}>
      {(a) => (
        <>
          <List of={a.revisions} />
          <h3>{t('revision.unasked')}</h3>
          <ul>{a.exceptions.map((e) => <li>{e.what} <small>{t('revision.clause', { clauses: e.clause })}</small></li>)}</ul>
          <p><a href={href('data')}>{t('revision.mine')}</a></p>
        </>
      )}
    </Show>
  );
}

/** All revisions, and what needs no consent. */
export function Background() {
  const [open, show] = useState(false);
  return (
    <details class="card more-card" onToggle={(e) => show(e.currentTarget.open)}>
      <summary><h2>{t('revision.title')}</h2></summary>
      {open && <Texts />}
    </details>
  );
}
