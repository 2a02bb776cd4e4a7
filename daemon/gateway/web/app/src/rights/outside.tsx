import { useState } from 'preact/hooks';
import { call } from '../api';
import { date, table } from '../i18n';
import { href } from '../route';
import { Button, Field, Head, Note, ProblemNote, save, useAct } from '../ui';
import { Ask, type Request } from './ask';
import en from './en.json';
import zh from './zh.json';

const r = table(en, zh);

interface Fetched { state: 'waiting' | 'erasing' | 'done'; due?: string; receipt?: { jws: string } }

/** What somebody can do who has no account here, or none any more. */
export function Outside() {
  return (
    <>
      <div class="card">
        <Head title={r('outsideTitle')} text={r('outsideText')} />
        <Ask />
        <p class="hint"><a href={href('files')}>{r('signIn')}</a></p>
      </div>
      <Answer />
      <Receipt />
    </>
  );
}

function Answer() {
  const [code, setCode] = useState('');
  const [is, set] = useState<Request | null>(null);
  const act = useAct();
  const submit = () => act.run(async () => set(await call<Request>('POST', '/v1/requests/read', { code }, true)));
  return (
    <section class="card">
      <h2>{r('answerTitle')}</h2>
      <form onSubmit={(e) => { e.preventDefault(); void submit(); }}>
        <Field label={r('code')} value={code} onInput={setCode} required autocomplete="off" autocapitalize="characters" spellcheck={false} />
        {act.problem && <ProblemNote problem={act.problem} />}
        {is && <Note icon="receipt"><p class="pre">{is.answer ?? r(is.overdue ? 'overdue' : 'due', { date: date(is.due) })}</p></Note>}
        <div class="row-end"><Button type="submit" busy={act.busy}>{r('read')}</Button></div>
      </form>
    </section>
  );
}

function Receipt() {
  const [code, setCode] = useState('');
  const [is, set] = useState<Fetched | null>(null);
  const act = useAct();
  const submit = () => act.run(async () => set(await call<Fetched>('POST', '/v1/deletion-receipt', { code }, true)));
  return (
    <section class="card">
      <h2>{r('receiptTitle')}</h2>
      <p>{r('receiptText')}</p>
      <form onSubmit={(e) => { e.preventDefault(); void submit(); }}>
        <Field label={r('code')} value={code} onInput={setCode} required autocomplete="off" autocapitalize="characters" spellcheck={false} />
        {act.problem && <ProblemNote problem={act.problem} />}
        {is && !is.receipt && <Note icon="again">{r(is.state === 'waiting' ? 'stillWaits' : 'stillErases', { date: is.due ? date(is.due) : '' })}</Note>}
        <div class="row-end">
          <Button type="submit" busy={act.busy}>{r('fetch')}</Button>
          {is?.receipt && <Button kind="main" icon="download" onClick={() => save(JSON.stringify(is.receipt, null, 2) + '\n', 'application/json', 'yunbox-deletion-receipt.json')}>{r('saveReceipt')}</Button>}
        </div>
      </form>
    </section>
  );
}
