import { useState } from 'preact/hooks';
import { call } from '../api';
import { table } from '../i18n';
import { session } from '../session';
import { Button, Field, Note, ProblemNote, say, useAct } from '../ui';
import en from './en.json';
import zh from './zh.json';

const r = table(en, zh);

export interface Request {
  id: string;
  from: string | null;
  kind: 'question' | 'access' | 'correction' | 'deletion' | 'complaint' | 'other';
  text: string;
  contact: string | null;
  verified: boolean;
  received: string;
  due: string;
  overdue: boolean;
  state: 'open' | 'answered' | 'refused';
  answer: string | null;
  closed?: string;
}

/** The form in which somebody asks or complains, with an account or without. */
export function Ask({ onSent }: { onSent?: (q: Request & { code: string | null }) => void }) {
  const [kind, setKind] = useState('question');
  const [text, setText] = useState('');
  const [contact, setContact] = useState('');
  const [code, setCode] = useState('');
  const act = useAct();
  const stranger = !session.value.me;
  const submit = () =>
    act.run(async () => {
      const q = await call<Request & { code: string | null }>('POST', '/v1/requests', { kind, text, ...(stranger && contact && { contact }) }, true);
      setText('');
      setCode(q.code ?? '');
      say(r('sent', { date: q.due }));
      onSent?.(q);
    });
  return (
    <form onSubmit={(e) => { e.preventDefault(); void submit(); }}>
      <div class="field">
        <label for="ask-kind">{r('about')}</label>
        <select id="ask-kind" class="input" value={kind} onChange={(e) => setKind(e.currentTarget.value)}>
          <option value="question">{r('question')}</option>
          <option value="access">{r('access')}</option>
          <option value="correction">{r('correction')}</option>
          <option value="deletion">{r('deletion')}</option>
          <option value="complaint">{r('complaint')}</option>
          <option value="other">{r('other')}</option>
        </select>
      </div>
      <div class="field"><label for="ask-text">{r('askWords')}</label><textarea id="ask-text" class="input" rows={4} value={text} onInput={(e) => setText(e.currentTarget.value)} required maxLength={8000} /></div>
      {stranger && <Field label={r('reach')} value={contact} onInput={setContact} maxLength={200} hint={r('reachHint')} />}
      {act.problem && <ProblemNote problem={act.problem} />}
      {code && <Note icon="receipt"><strong>{r('askCode')}</strong><p><code class="wrap">{code}</code></p></Note>}
      <div class="row-end"><Button kind="main" type="submit" busy={act.busy}>{r('send')}</Button></div>
    </form>
  );
}
