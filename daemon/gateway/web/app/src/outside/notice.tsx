import { dateTime } from '../i18n';
import { o, textOf, type Incident } from './texts';

/** What people read of an incident. */
export function Notice({ of, children }: { of: Incident; children?: preact.ComponentChildren }) {
  const { text, lang } = textOf(of.text);
  const parts = [['outside.what', text.what], ['outside.effect', text.effect], ['outside.measures', text.measures], ['outside.advice', text.advice], ['outside.remedies', text.remedies]] as const;
  return (
    <section class={of.seen ? 'card' : 'card wanted'} aria-label={text.title}>
      <div class="card-head"><h3 lang={lang}>{text.title}</h3></div>
      <dl class="facts">
        <div><dt>{o('outside.when')}</dt><dd>{dateTime(of.happened)}</dd></div>
        {parts.map(([key, value]) => <div><dt>{o(key)}</dt><dd lang={lang}>{value.split('\n').map((line) => <div>{line}</div>)}</dd></div>)}
        <div><dt>{o('outside.contact')}</dt><dd>{of.contact}</dd></div>
      </dl>
      {children}
    </section>
  );
}
