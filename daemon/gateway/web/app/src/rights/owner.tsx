import { useEffect, useState } from 'preact/hooks';
import { call, get } from '../api';
import { date, table } from '../i18n';
import { refresh, session } from '../session';
import { Button, Dialog, Field, Note, ProblemNote, say, useAct } from '../ui';
import en from './en.json';
import zh from './zh.json';

const r = table(en, zh);

interface Offer { from: string; to: string; mine: boolean; due: string }

/** Handing the box over: by its owner, and for whom it is offered to. */
export function Owner() {
  const [offer, set] = useState<Offer | null | undefined>(undefined);
  const [to, setTo] = useState('');
  const [sure, ask] = useState(false);
  const act = useAct();
  const look = () => act.run(async () => set((await get<{ offer?: Offer }>('/v1/ownership')).offer ?? null));
  useEffect(() => void look(), []);
  const give = async () => {
    const done = await act.run(async () => set(await call<Offer>('POST', '/v1/ownership', { to: to.trim() })));
    if (done) ask(false);
  };
  const end = () =>
    act.run(async () => {
      await call('DELETE', '/v1/ownership');
      set(null);
      say(r('ownerEnded'));
    });
  const take = () =>
    act.run(async () => {
      await call('PUT', '/v1/ownership');
      set(null);
      say(r('ownerYours'));
      await refresh();
    });
  if (offer && !offer.mine) {
    return (
      <section class="card wanted">
        <h2>{r('ownerOffer', { name: offer.from })}</h2>
        <p>{r('ownerOfferText', { name: offer.from, date: date(offer.due) })}</p>
        {act.problem && <ProblemNote problem={act.problem} />}
        <div class="row-end"><Button busy={act.busy} onClick={() => void end()}>{r('ownerNo')}</Button><Button kind="main" busy={act.busy} onClick={() => void take()}>{r('ownerTake')}</Button></div>
      </section>
    );
  }
  if (session.value.me!.role !== 'owner') return null;
  return (
    <section class="card">
      <h2>{r('ownerTitle')}</h2>
      <p>{r('ownerText')}</p>
      {offer ? (
        <>
          <Note icon="account">{r('ownerWaits', { name: offer.to, date: date(offer.due) })}</Note>
          <div class="row-end"><Button busy={act.busy} onClick={() => void end()}>{r('ownerBack')}</Button></div>
        </>
      ) : (
        <form onSubmit={(e) => { e.preventDefault(); ask(true); }}>
          <Field label={r('ownerTo')} value={to} onInput={setTo} required autocomplete="off" autocapitalize="off" spellcheck={false} />
          <div class="row-end"><Button type="submit">{r('ownerGive')}</Button></div>
        </form>
      )}
      {act.problem && !sure && <ProblemNote problem={act.problem} />}
      {sure && (
        <Dialog title={r('ownerTitle')} onClose={() => ask(false)}>
          <p>{r('ownerSure', { name: to.trim() })}</p>
          {act.problem && <ProblemNote problem={act.problem} />}
          <div class="row-end"><Button onClick={() => ask(false)}>{r('back')}</Button><Button kind="danger" busy={act.busy} onClick={() => void give()}>{r('ownerGive')}</Button></div>
        </Dialog>
      )}
    </section>
  );
}
