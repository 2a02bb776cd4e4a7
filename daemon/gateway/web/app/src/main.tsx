import { render } from 'preact';
import { useEffect, useState } from 'preact/hooks';
import { AccountPage } from './account';
import { WorkBar } from './duplicates/bar';
import { FilesPage } from './files';
import { Problem } from './api';
import { Icon, Logo, type IconName } from './icons';
import { lang, percent, setLang, t } from './i18n';
import { listen } from './live';
import { go, href, route } from './route';
import { ProofDialog } from './proof';
import { begin, notices, session, signOut } from './session';
import { SignIn } from './signin';
import { StoragePage } from './storage';
import { useStore } from './store';
import { TrashPage } from './trash';
import { Button, Loading, ProblemNote, say, Toasts } from './ui';
import { noteUse } from './usage';
import { queue } from './upload/queue';
import { UploadPage } from './upload/page';

const pages = [
  { page: 'files', icon: 'files', view: FilesPage },
  { page: 'upload', icon: 'upload', view: UploadPage },
  { page: 'consents', icon: 'consents', view: later(async () => ({ default: (await import('./consents')).ConsentsPage })) },
  { page: 'storage', icon: 'storage', view: StoragePage },
  { page: 'account', icon: 'account', view: AccountPage },
] as const satisfies { page: string; icon: IconName; view: unknown }[];

/** Pages that are reached from another one, which stays marked. */
const below: Record<string, { of: string; view: () => preact.JSX.Element } | undefined> = {
  trash: { of: 'files', view: TrashPage },
  duplicates: { of: 'storage', view: later(async () => ({ default: (await import('./duplicates/page')).DuplicatesPage })) },
  data: { of: 'account', view: later(async () => ({ default: (await import('./data')).DataPage })) },
  me: { of: 'account', view: later(() => import('./me/page')) },
  guardian: { of: 'consents', view: later(() => import('./guardian/guardian')) },
  rights: { of: 'account', view: later(() => import('./rights/page')) },
  update: { of: 'account', view: later(() => import('./update/page')) },
  outside: { of: 'account', view: later(() => import('./outside/page')) },
  binding: { of: 'account', view: later(() => import('./binding/page')) },
  elsewhere: { of: 'account', view: later(async () => ({ default: (await import('./outside/page')).Back })) },
};

/** What is asked of who has not said yet how they stand to the policy. */
const Welcome = later(async () => ({ default: (await import('./welcome')).Welcome }));

/** How a new box becomes somebody's, and how somebody comes in who was invited. */
const FirstRun = later(async () => ({ default: (await import('./firstrun')).FirstRun }));
const Join = later(async () => ({ default: (await import('./binding/page')).Join }));

/** What runs in the background, below what is stored. */
const Jobs = later(() => import('./jobs/page'));

/** What is open to whoever has no account, or none any more. */
const Outside = later(async () => ({ default: (await import('./rights/page')).Outside }));

/** What people must be told before they sign in, and other ways to do that. */
const Gate = later(async () => ({ default: (await import('./outside/page')).Gate }));
const Elsewhere = below['elsewhere']!.view;

/** How an app is let in that asked for it on this box's page. */
const Grant = later(async () => ({ default: (await import('./grant')).Grant }));

/** A page that is fetched when somebody opens it. */
function later(load: () => Promise<{ default: () => preact.JSX.Element }>) {
  return function Later() {
    const [view, show] = useState<{ default: () => preact.JSX.Element } | null>(null);
    const [problem, fail] = useState<Problem | null>(null);
    useEffect(() => void load().then(show, (e) => fail(Problem.of(e))), []);
    return view ? <view.default /> : problem ? <ProblemNote problem={problem} /> : <Loading />;
  };
}

function App() {
  useStore(lang); // drawing from the top draws every text again
  const { page } = useStore(route);
  const s = useStore(session);
  useEffect(() => void begin(), []);
  return (
    <div class="root">
      {!s.ready ? <Plain><Loading /></Plain>
        : s.problem ? <Plain><ProblemNote problem={s.problem}><p><Button icon="again" onClick={() => void begin()}>{t('again')}</Button></p></ProblemNote></Plain>
        : !s.box!.bound ? <Plain wide><FirstRun /></Plain>
        : page === 'ask' ? <Plain><Outside /></Plain>
        : !s.me ? <Plain>{page === 'elsewhere' ? <Elsewhere /> : page === 'join' ? <Join /> : <><SignIn />{s.box!.gate && <Gate />}</>}</Plain>
        : page === 'grant' ? <Plain wide><Grant /></Plain>
        : s.welcome && s.me.role !== 'child' ? <Plain wide><Welcome /></Plain>
        : <Shell />}
      <ProofDialog />
      <Toasts />
    </div>
  );
}

/** The frame of everything before one is signed in. */
function Plain({ children, wide }: { children: preact.ComponentChildren; wide?: boolean }) {
  const name = session.value.box?.name;
  return (
    <div class={wide ? 'gate wide' : 'gate'}>
      <header class="gate-head">
        <span class="brand"><Logo /><span class="brand-name">{name ?? 'Yunbox'}</span></span>
        <LangButton />
      </header>
      <main>{children}</main>
    </div>
  );
}

function Shell() {
  const { page } = useStore(route);
  const { box, me } = session.value;
  const known = pages.find((p) => p.page === page);
  useEffect(() => {
    if (!known && !below[page]) go('files');
  }, [page]);
  useEffect(listen, []);
  useEffect(() => void noteUse(page), [page]);
  const View = below[page]?.view ?? (known ?? pages[0]).view;
  return (
    <div class="shell">
      <a class="skip" href="#main" onClick={(e) => { e.preventDefault(); document.querySelector<HTMLElement>('h1')?.focus(); }}>{t('skip')}</a>
      <header class="bar">
        <a class="brand" href={href('files')}><Logo /><span class="brand-name">{box!.name}</span></a>
        <nav class="nav" aria-label={t('nav')}>
          {pages.map((p) => (
            <a href={href(p.page)} aria-current={p.page === (below[page]?.of ?? page) ? 'page' : undefined}>
              <Icon name={p.icon} />
              <span>{t(`${p.page}.nav`)}</span>
              {p.page === 'upload' && <UploadBadge />}
              {p.page === 'account' && <NoticeBadge />}
            </a>
          ))}
        </nav>
        <div class="bar-foot">
          <span class="who" title={me!.username}>{me!.username}</span>
          <LangButton />
          <Button kind="quiet" icon="out" onClick={() => signOut().catch(() => say(t('signout.failed')))}>{t('signout')}</Button>
        </div>
      </header>
      <main id="main" class="content" key={page}>
        {page !== 'duplicates' && <WorkBar />}
        <View />
        {page === 'storage' && <Jobs />}
      </main>
    </div>
  );
}

function UploadBadge() {
  useStore(queue.changed);
  const n = queue.totals();
  if (n.busy === 0) return n.refused + n.failed > 0 ? <span class="badge bad">!</span> : null;
  return <span class="badge">{percent(n.done, n.bytes)}</span>;
}

function NoticeBadge() {
  const n = useStore(notices).length;
  return n > 0 ? <span class="badge bad"><span class="hidden">{t('notices.title')}: </span>{n}</span> : null;
}

function LangButton() {
  const other = lang.value === 'en' ? 'zh' : 'en';
  return (
    <button type="button" class="button quiet lang" lang={other === 'zh' ? 'zh-CN' : 'en'} onClick={() => setLang(other)}>
      {other === 'zh' ? '中文' : 'English'}
    </button>
  );
}

render(<App />, document.getElementById('app')!);
