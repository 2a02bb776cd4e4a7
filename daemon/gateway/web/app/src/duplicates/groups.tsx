import { useEffect, useState } from 'preact/hooks';
import { Problem, problemOf } from '../api';
import { Icon, iconOf } from '../icons';
import { date, number, size, t } from '../i18n';
import { Button, Note } from '../ui';
import { d } from './texts';
import { nameOf, type Alike, type Entry, type Found, type Group, type Name, type Picture } from './work';

/** By content: the file that the person wants to stay, or null for all of them. */
export type Choices = Record<string, { stays: string | null; all: string[] }>;

const STEP = 20;
const NANO = 1e6;
const base = (path: string) => path.slice(path.lastIndexOf('/') + 1);

export function GroupList({ groups, total, choices, choose }: { groups: Group[]; total: number; choices: Choices; choose: (c: Choices) => void }) {
  const [shown, show] = useState(STEP);
  return (
    <section aria-label={d('dups.groups')}>
      <h2 class="section-title">{d('dups.groups')}</h2>
      <p class="section-text">{d('dups.groupsText')}</p>
      <div class="groups">
        {groups.slice(0, shown).map((g) => (
          <GroupCard
            key={g.sha256} group={g} choice={choices[g.sha256]}
            choose={(c) => {
              const { [g.sha256]: _, ...rest } = choices;
              choose(c ? { ...rest, [g.sha256]: c } : rest);
            }}
          />
        ))}
      </div>
      {shown < groups.length && <div class="load-more"><Button onClick={() => show(shown + STEP)}>{t('files.more')}</Button></div>}
      {total > groups.length && shown >= groups.length && <p class="hint">{d('dups.groupsMore', { n: total - groups.length })}</p>}
    </section>
  );
}

/** One content with all its files; which of them stays can be said here. */
function GroupCard({ group: g, choice, choose }: { group: Group; choice: Choices[string] | undefined; choose: (c: Choices[string] | null) => void }) {
  const files = [g.keep, ...g.fold];
  // What cannot be named in a question cannot be chosen: a name that is no text.
  const names = files.flatMap((f) => (typeof f.path === 'string' ? [f.path] : []));
  const stays = choice ? choice.stays : nameOf(g.keep.path);
  const first = nameOf(g.keep.path);
  return (
    <details class="card group">
      <summary>
        <span class="thumb"><Icon name={iconOf(first)} /></span>
        <span class="line-main">
          <strong>{base(first)}</strong>
          <small>{d('dups.copies', { n: files.length })} · {d('dups.each', { size: size(g.size) })}{g.in_box && ' · ' + d('dups.boxHas')}</small>
        </span>
        {choice && <span class="tag good">{d(choice.stays === null ? 'dups.allStay' : 'dups.chosen')}</span>}
        <Icon name="chevron" class="faint turn" />
      </summary>
      <fieldset class="choice">
        <legend class="hidden">{d('dups.whichStays', { name: base(first) })}</legend>
        {files.map((f) => <FileOption key={nameOf(f.path)} group={g.sha256} file={f} checked={nameOf(f.path) === stays} pick={typeof f.path === 'string' ? () => choose({ stays: f.path as string, all: names }) : null} />)}
        <label class="option">
          <input type="radio" name={'stays-' + g.sha256} checked={stays === null} onChange={() => choose({ stays: null, all: names })} />
          <span class="line-main"><strong>{d('dups.keepAll')}</strong></span>
        </label>
      </fieldset>
    </details>
  );
}

function FileOption({ group, file: f, checked, pick }: { group: string; file: Entry; checked: boolean; pick: (() => void) | null }) {
  return (
    <label class="option">
      <input type="radio" name={'stays-' + group} checked={checked} disabled={!pick} onChange={() => pick?.()} />
      <span class="line-main"><span class="path">{nameOf(f.path)}</span><small>{date(new Date(f.mtime / NANO).toISOString())}</small></span>
      {checked && <span class="tag good">{d('dups.stays')}</span>}
    </label>
  );
}

/** Pictures that show the same: for the person to judge. Nothing here removes any of them. */
export function AlikeList({ of: f }: { of: Found }) {
  const [shown, show] = useState(STEP);
  const a = f.alike!;
  return (
    <section aria-label={d('dups.alike')}>
      <h2 class="section-title">{d('dups.alike')}</h2>
      <p class="section-text">{a.alike === 0 ? d('dups.alikeNone', { n: a.pictures }) : d('dups.alikeText', { n: a.alike, of: a.pictures, size: size(a.bytes) })}</p>
      {a.alike > 0 && <Note icon="image">{d('dups.alikeOnly')}</Note>}
      <div class="groups">
        {f.pictures.slice(0, shown).map((p) => <AlikeCard key={nameOf(p.best.path)} folder={f.folder} of={p} />)}
      </div>
      {shown < f.pictures.length && <div class="load-more"><Button onClick={() => show(shown + STEP)}>{t('files.more')}</Button></div>}
      {a.unseen > 0 && <p class="hint">{d('dups.unseen', { n: a.unseen })}</p>}
    </section>
  );
}

function AlikeCard({ folder, of }: { folder: string; of: Alike }) {
  const [open, setOpen] = useState(false);
  const first = nameOf(of.best.path);
  return (
    <details class="card group" onToggle={(e) => setOpen(e.currentTarget.open)}>
      <summary>
        <span class="thumb"><Icon name="image" /></span>
        <span class="line-main">
          <strong>{base(first)}</strong>
          <small>{d('dups.pictures', { n: of.files.length + 1 })}</small>
        </span>
        <Icon name="chevron" class="faint turn" />
      </summary>
      {open && (
        <div class="looks">
          <Look folder={folder} picture={of.best} tag={d('dups.best')} />
          {of.files.map((p) => <Look key={nameOf(p.path)} folder={folder} picture={p} tag={d(p.exact ? 'dups.exact' : 'dups.looks')} />)}
        </div>
      )}
    </details>
  );
}

function Look({ folder, picture: p, tag }: { folder: string; picture: Picture; tag: string }) {
  const src = usePicture(folder, p.path);
  return (
    <figure class="look">
      <span class="look-frame">{src ? <img src={src} alt="" /> : <Icon name="image" />}</span>
      <figcaption>
        <span class="tag">{tag}</span>
        <span class="path">{nameOf(p.path)}</span>
        <small>{number(p.width)} × {number(p.height)} · {size(p.size)}</small>
      </figcaption>
    </figure>
  );
}

/** A picture of a folder, asked for by a body, so that no name stands in an address. */
function usePicture(folder: string, file: Name): string | null {
  const [src, set] = useState<string | null>(null);
  useEffect(() => {
    const end = new AbortController();
    let url = '';
    const ask = async () => {
      const r = await fetch('/v1/duplicates/picture', {
        method: 'POST', headers: { 'Content-Type': 'application/json' }, body: JSON.stringify({ path: folder, file }),
        credentials: 'same-origin', cache: 'no-store', signal: end.signal,
      });
      if (!r.ok) throw problemOf(r.status, await r.text(), null);
      url = URL.createObjectURL(await r.blob());
      if (end.signal.aborted) URL.revokeObjectURL(url);
      else set(url);
    };
    ask().catch((e: unknown) => Problem.of(e)); // the icon stays
    return () => {
      end.abort();
      if (url) URL.revokeObjectURL(url);
    };
  }, [folder, file]);
  return src;
}
