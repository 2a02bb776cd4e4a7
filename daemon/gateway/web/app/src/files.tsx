import { useEffect, useRef, useState } from 'preact/hooks';
import { call, fileURL, get, Problem, type Item, type Listing } from './api';
import { Icon, iconOf, isPicture } from './icons';
import { date, size, t, translated, word } from './i18n';
import { changed } from './live';
import { go, href, route } from './route';
import { Button, Dialog, Empty, Head, IconButton, Loading, ProblemNote, say } from './ui';
import { useStore } from './store';
import { dropped } from './upload/pick';
import { queue } from './upload/queue';

const PAGE = 100;

/** A listing that grows by pages of the box's own cursor. */
export function useListing(query: Record<string, string>) {
  const key = new URLSearchParams({ ...query, limit: String(PAGE) }).toString();
  const [list, set] = useState<Listing | null>(null);
  const [problem, setProblem] = useState<Problem | null>(null);
  const [busy, setBusy] = useState(false);
  const current = useRef('');
  const ask = async (cursor: string | null) => {
    setBusy(true);
    setProblem(null);
    try {
      const more = await get<Listing>(`/v1/items?${key}${cursor ? '&cursor=' + encodeURIComponent(cursor) : ''}`);
      if (current.current !== key) return; // another folder was opened meanwhile
      set((have) => (cursor && have ? { ...more, folders: have.folders, items: [...have.items, ...more.items] } : { ...more, folders: more.folders ?? [], items: more.items ?? [] }));
    } catch (e) {
      if (current.current === key) setProblem(Problem.of(e));
    }
    if (current.current === key) setBusy(false);
  };
  useEffect(() => {
    current.current = key;
    set(null);
    void ask(null);
  }, [key]);
  return {
    list, problem, busy,
    reload: () => void ask(null),
    more: () => void ask(list?.next ?? null),
    drop: (id: string) => set((have) => have && { ...have, items: have.items.filter((i) => i.id !== id) }),
  };
}

export function FilesPage() {
  const folder = useStore(route).rest;
  const listing = useListing({ folder });
  const [shown, show] = useState<Item | null>(null);
  const [over, setOver] = useState(false);

  // What a phone sends, or another tab changes, appears by itself; a listing that was
  // paged on is left alone, so that nothing jumps under the reader's eyes.
  const whole = useRef(true);
  whole.current = (listing.list?.items.length ?? 0) <= PAGE;
  useEffect(() => {
    let timer = 0;
    const end = changed.watch(() => {
      const path = changed.value;
      if (timer || !whole.current || (folder && !path.startsWith(folder + '/'))) return;
      timer = setTimeout(() => {
        timer = 0;
        listing.reload();
      }, 1000);
    });
    return () => {
      clearTimeout(timer);
      end();
    };
  }, [folder]);

  const remove = async (item: Item) => {
    try {
      await call('DELETE', fileURL(item.path));
      listing.drop(item.id);
      say(t('files.trashed', { name: item.name }), {
        label: t('undo'),
        run: () => void call('POST', `/v1/items/${item.id}/restore`).then(listing.reload, () => say(t('failed'))),
      });
    } catch (e) {
      const p = Problem.of(e);
      say(translated(p.title) || word('problem', p.kind));
    }
  };
  const drop = async (e: DragEvent) => {
    e.preventDefault();
    setOver(false);
    if (!e.dataTransfer) return;
    const files = await dropped(e.dataTransfer);
    if (files.length === 0) return;
    void queue.add(files, 'other', folder); // put here by hand
    go('upload');
  };

  const { list } = listing;
  const empty = list && list.folders.length === 0 && list.items.length === 0;
  return (
    <div
      class={over ? 'drop-area over' : 'drop-area'}
      onDragOver={(e) => { if (e.dataTransfer?.types.includes('Files')) { e.preventDefault(); setOver(true); } }}
      onDragLeave={(e) => e.currentTarget === e.target && setOver(false)}
      onDrop={(e) => void drop(e)}
    >
      <Head key={folder} title={folder ? folder.slice(folder.lastIndexOf('/') + 1) : t('files.title')}>
        <a class="button plain" href={href('trash')}><Icon name="trash" /><span>{t('trash.title')}</span></a>
        <a class="button main" href={href('upload', folder)}><Icon name="upload" /><span>{t('files.upload')}</span></a>
      </Head>
      {folder && <Crumbs folder={folder} />}
      {listing.problem && <ProblemNote problem={listing.problem}><p><Button icon="again" onClick={listing.reload}>{t('again')}</Button></p></ProblemNote>}
      {!list && !listing.problem && <Loading />}
      {empty && (
        <Empty icon="files" title={t(folder ? 'files.emptyFolder' : 'files.empty')}>
          {!folder && <p>{t('files.emptyText')}</p>}
          <a class="button main" href={href('upload', folder)}><Icon name="upload" /><span>{t('files.emptyDo')}</span></a>
        </Empty>
      )}
      {list && !empty && (
        <table class="files">
          <thead>
            <tr>
              <th scope="col">{t('files.name')}</th>
              <th scope="col" class="num">{t('files.size')}</th>
              <th scope="col">{t('files.date')}</th>
              <th scope="col">{t('files.source')}</th>
              <th scope="col"><span class="hidden">{t('files.acts')}</span></th>
            </tr>
          </thead>
          <tbody>
            {list.folders.map((f) => (
              <tr key={'f' + f.path}>
                <th scope="row" class="name" colSpan={4}>
                  <a class="thing" href={href('files', f.path)}><span class="thumb folder"><Icon name="folder" /></span><span class="thing-name">{f.name}</span></a>
                </th>
                <td class="acts"><Icon name="chevron" class="faint" /></td>
              </tr>
            ))}
            {list.items.map((i) => (
              <tr key={i.id}>
                <th scope="row" class="name">
                  {isPicture(i.name)
                    ? <button type="button" class="thing" onClick={() => show(i)}><Thumb item={i} /><span class="thing-name">{i.name}</span></button>
                    : <a class="thing" href={fileURL(i.path)} download={i.name}><Thumb item={i} /><span class="thing-name">{i.name}</span></a>}
                </th>
                <td class="num">{size(i.size)}</td>
                <td><time dateTime={i.mtime ?? i.added}>{date(i.mtime ?? i.added)}</time></td>
                <td class="source">{word('source', i.source)}</td>
                <td class="acts">
                  <a class="icon-button" href={fileURL(i.path)} download={i.name} aria-label={t('files.download', { name: i.name })} title={t('files.downloadShort')}><Icon name="download" /></a>
                  <IconButton icon="trash" label={t('files.delete', { name: i.name })} onClick={() => void remove(i)} />
                </td>
              </tr>
            ))}
          </tbody>
        </table>
      )}
      {list?.next && <div class="load-more"><Button busy={listing.busy} onClick={listing.more}>{t('files.more')}</Button></div>}
      {over && <div class="drop-hint" aria-hidden="true"><Icon name="upload" /><span>{t('upload.dropHere')}</span></div>}
      {shown && (
        <Dialog title={shown.name} wide onClose={() => show(null)}>
          <img class="preview" src={fileURL(shown.path)} alt={shown.name} />
          <div class="row-end">
            <p class="hint">{size(shown.size)} · {date(shown.mtime ?? shown.added)} · {word('source', shown.source)}</p>
            <a class="button main" href={fileURL(shown.path)} download={shown.name}><Icon name="download" /><span>{t('files.downloadShort')}</span></a>
          </div>
        </Dialog>
      )}
    </div>
  );
}

// The box makes no thumbnails yet: small pictures are shown themselves, large ones by an icon.
const SMALL = 512_000;

export function Thumb({ item }: { item: Item }) {
  const [bad, setBad] = useState(false);
  if (!bad && !item.trashed && item.size <= SMALL && isPicture(item.name)) {
    return <span class="thumb"><img src={fileURL(item.path)} alt="" loading="lazy" decoding="async" width={40} height={40} onError={() => setBad(true)} /></span>;
  }
  return <span class="thumb"><Icon name={iconOf(item.name)} /></span>;
}

function Crumbs({ folder }: { folder: string }) {
  const parts = folder.split('/');
  return (
    <nav class="crumbs" aria-label={t('files.crumbs')}>
      <ol>
        <li><a href={href('files')}>{t('files.title')}</a></li>
        {parts.map((p, n) => {
          const path = parts.slice(0, n + 1).join('/');
          return <li><Icon name="chevron" class="faint" />{n === parts.length - 1 ? <span aria-current="page">{p}</span> : <a href={href('files', path)}>{p}</a>}</li>;
        })}
      </ol>
    </nav>
  );
}
