import { useState } from 'preact/hooks';
import { call, get } from '../api';
import { Icon } from '../icons';
import { date, dateTime } from '../i18n';
import { href } from '../route';
import { isAdmin, session } from '../session';
import { Button, Empty, Head, IconButton, ProblemNote, say as toast, Show, useAct, useLoad } from '../ui';
import { Incidents, Maker } from './admin';
import type { Service } from './gate';
import { Notice } from './notice';
import { o, say, type Incident } from './texts';

export { default as Gate } from './gate';
export { default as Back } from './back';

/** What concerns the world outside of the box: incidents, what left it, accounts elsewhere. */
export default function OutsidePage() {
  const admin = isAdmin(session.value.me!);
  return (
    <>
      <Head title={o('outside.title')} text={o('outside.text')} />
      <Told />
      <Links />
      <Register path="/v1/me/disclosures" title={o('outside.left')} text={o('outside.leftText')} />
      {admin && (
        <>
          <h2 class="section-title">{o('outside.managing')}</h2>
          <Incidents />
          <Register path="/v1/disclosures" title={o('outside.leftAll')} text={o('outside.leftAllText')} closed />
          <section class="card" aria-labelledby="outside-software">
            <h2 id="outside-software">{o('outside.software')}</h2>
            <p>{o('outside.softwareText')}</p>
            <p><a class="button plain" href={href('update')}><Icon name="upload" /><span>{o('outside.softwareOpen')}</span></a></p>
          </section>
          <Maker path="/v1/update-check" title={o('outside.updates')} text={o('outside.updatesText')} />
          <Maker path="/v1/statistics" title={o('outside.sums')} text={o('outside.sumsText')} />
        </>
      )}
    </>
  );
}

function Told() {
  const told = useLoad(async () => (await get<{ incidents: Incident[] }>('/v1/me/incidents')).incidents, []);
  const act = useAct();
  const seen = (i: Incident) => act.run(async () => { await call('POST', `/v1/me/incidents/${i.id}/seen`); told.reload(); });
  if (!told.value?.length) return told.problem ? <ProblemNote problem={told.problem} /> : null;
  return (
    <>
      <h2 class="section-title">{o('outside.told')}</h2>
      {act.problem && <ProblemNote problem={act.problem} />}
      {told.value.map((i) => (
        <Notice of={i} key={i.id}>
          <div class="row-end">
            <p class="hint">{i.seen ? o('outside.seenAt', { time: dateTime(i.seen) }) : o('outside.seenHint')}</p>
            {!i.seen && <Button kind="main" icon="check" busy={act.busy} onClick={() => void seen(i)}>{o('outside.seen')}</Button>}
          </div>
        </Notice>
      ))}
    </>
  );
}

interface Link { id: string; service: string; shown: string | null; created: string; last_used: string | null }

function Links() {
  const all = useLoad(async () => {
    const [{ links }, { services }] = await Promise.all([get<{ links: Link[] }>('/v1/me/links'), get<{ services: Service[] }>('/v1/sign-in')]);
    return { links, services };
  }, []);
  const act = useAct();
  const connect = (s: Service) => act.run(async () => location.assign((await call<{ url: string }>('POST', '/v1/me/links/' + s.id)).url));
  const cut = (l: Link) => act.run(async () => { await call('DELETE', '/v1/me/links/' + l.id); all.reload(); toast(o('outside.cutDone')); });
  if (all.value && all.value.links.length + all.value.services.length === 0) return null;
  const name = (services: Service[], id: string) => services.find((s) => s.id === id)?.name ?? id;
  return (
    <section class="card" aria-labelledby="outside-links">
      <h2 id="outside-links">{o('outside.links')}</h2>
      <p>{o('outside.linksText')} <a href={href('consents', 'third_party_login')}>{o('outside.consent')}</a></p>
      {act.problem && <ProblemNote problem={act.problem} />}
      <Show of={all}>
        {({ links, services }) => (
          <>
            <ul class="lines">
              {links.map((l) => (
                <li key={l.id}>
                  <span class="thumb"><Icon name="key" /></span>
                  <span class="line-main"><strong>{name(services, l.service)}</strong><small>{l.shown && `${l.shown} · `}{o('outside.since', { time: date(l.created) })}{l.last_used && ` · ${o('outside.used', { time: dateTime(l.last_used) })}`}</small></span>
                  <span class="line-acts"><IconButton icon="close" label={o('outside.cut', { name: name(services, l.service) })} onClick={() => void cut(l)} /></span>
                </li>
              ))}
            </ul>
            <div class="row-end">
              <p class="hint">{o('outside.thirdParty')}</p>
              {services.filter((s) => !links.some((l) => l.service === s.id)).map((s) => <Button icon="out" busy={act.busy} onClick={() => void connect(s)}>{o('outside.connect', { name: s.name })}</Button>)}
            </div>
          </>
        )}
      </Show>
    </section>
  );
}

interface Entry { seq: number; time: string; about: string; kind: string; recipient: string; categories: string[]; why: string; basis: string; authority: string | null }

function Register({ path, title, text, closed }: { path: string; title: string; text: string; closed?: boolean }) {
  const [open, show] = useState(!closed);
  return (
    <section class="card" aria-label={title}>
      <h2>{title}</h2>
      <p>{text}</p>
      {open ? <Entries path={path} /> : <div class="row-end"><Button onClick={() => show(true)}>{o('outside.show')}</Button></div>}
    </section>
  );
}

function Entries({ path }: { path: string }) {
  const [older, add] = useState<Entry[]>([]);
  const [next, setNext] = useState<number | null>(null);
  const first = useLoad(async () => {
    const page = await get<{ disclosures: Entry[]; next: number | null }>(path + '?limit=20');
    setNext(page.next);
    return page.disclosures;
  }, [path]);
  const act = useAct();
  const more = () =>
    act.run(async () => {
      const page = await get<{ disclosures: Entry[]; next: number | null }>(`${path}?limit=20&before=${next}`);
      add([...older, ...page.disclosures]);
      setNext(page.next);
    });
  return (
    <Show of={first}>
      {(list) => list.length === 0 ? <Empty icon="receipt" title={o('outside.nothing')} /> : (
        <>
          <ul class="lines">
            {[...list, ...older].map((e) => (
              <li key={e.seq}>
                <span class="thumb"><Icon name="out" /></span>
                <span class="line-main">
                  <strong>{say('kind', e.kind)}</strong>
                  <small>{dateTime(e.time)} · {o('outside.to', { who: say('to', e.recipient) })} · {e.categories.map((c) => say('data', c)).join(', ')}</small>
                  <small>{o('outside.by')}: {say('basis', e.basis)}{e.authority && ` (${e.authority})`} · {o('outside.about')}: {say('about', e.about)}</small>
                </span>
              </li>
            ))}
          </ul>
          {act.problem && <ProblemNote problem={act.problem} />}
          {next !== null && <div class="load-more"><Button busy={act.busy} onClick={() => void more()}>{o('outside.more')}</Button></div>}
        </>
      )}
    </Show>
  );
}
