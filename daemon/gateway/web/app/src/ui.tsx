import type { ComponentChildren } from 'preact';
import { useEffect, useId, useRef, useState } from 'preact/hooks';
import { Problem } from './api';
import { Icon, type IconName } from './icons';
import { lang, t, translated, word } from './i18n';
import { inline } from './markdown';
import { href } from './route';
import { Store, useStore } from './store';

/** The result of asking the box, with a way to ask again. */
export interface Loaded<T> {
  value: T | null;
  problem: Problem | null;
  busy: boolean;
  reload: () => void;
}

/** Asks when the page appears and whenever one of deps changes; the last answer stays on show meanwhile. */
export function useLoad<T>(ask: () => Promise<T>, deps: unknown[]): Loaded<T> {
  const [state, set] = useState<{ value: T | null; problem: Problem | null; busy: boolean }>({ value: null, problem: null, busy: true });
  const [turn, again] = useState(0);
  useEffect(() => {
    let current = true;
    set((s) => ({ ...s, busy: true }));
    ask().then(
      (value) => current && set({ value, problem: null, busy: false }),
      (e: unknown) => current && set((s) => ({ ...s, problem: Problem.of(e), busy: false })),
    );
    return () => {
      current = false;
    };
  }, [...deps, turn]);
  return { ...state, reload: () => again((n) => n + 1) };
}

/** An act that a button starts: busy while it runs, its problem when it fails. */
export function useAct(): { busy: boolean; problem: Problem | null; run: (act: () => Promise<void>) => Promise<boolean>; clear: () => void } {
  const [busy, setBusy] = useState(false);
  const [problem, setProblem] = useState<Problem | null>(null);
  const run = async (act: () => Promise<void>) => {
    setBusy(true);
    setProblem(null);
    try {
      await act();
      return true;
    } catch (e) {
      setProblem(Problem.of(e));
      return false;
    } finally {
      setBusy(false);
    }
  };
  return { busy, problem, run, clear: () => setProblem(null) };
}

interface ButtonProps {
  kind?: 'main' | 'plain' | 'quiet' | 'danger';
  type?: 'button' | 'submit';
  icon?: IconName;
  busy?: boolean;
  class?: string;
  'aria-label'?: string;
  onClick?: () => void;
  children?: ComponentChildren;
}

export function Button({ kind = 'plain', type = 'button', icon, busy, class: extra = '', onClick, children, ...rest }: ButtonProps) {
  return (
    <button type={type} class={`button ${kind} ${extra}`} aria-busy={busy || undefined} onClick={(e) => (busy ? e.preventDefault() : onClick?.())} {...rest}>
      {icon && <Icon name={icon} />}
      {children && <span>{children}</span>}
    </button>
  );
}

export function IconButton({ icon, label, onClick }: { icon: IconName; label: string; onClick: () => void }) {
  return (
    <button type="button" class="icon-button" aria-label={label} title={label} onClick={onClick}>
      <Icon name={icon} />
    </button>
  );
}

interface FieldProps {
  label: string;
  hint?: ComponentChildren;
  value: string;
  onInput: (v: string) => void;
  name?: string;
  required?: boolean;
  maxLength?: number;
  autocomplete?: string;
  autocapitalize?: 'off' | 'characters';
  spellcheck?: boolean;
  inputMode?: 'numeric' | 'decimal';
  pattern?: string;
}

export function Field({ label, hint, onInput, ...rest }: FieldProps) {
  const id = useId();
  return (
    <div class="field">
      <label for={id}>{label}</label>
      <input id={id} class="input" type="text" aria-describedby={hint ? id + 'h' : undefined} onInput={(e) => onInput(e.currentTarget.value)} {...rest} />
      {hint && <p class="hint" id={id + 'h'}>{hint}</p>}
    </div>
  );
}

export function Password({ label, hint, value, onInput, fresh }: { label: string; hint?: ComponentChildren; value: string; onInput: (v: string) => void; fresh?: boolean }) {
  const id = useId();
  const [shown, show] = useState(false);
  return (
    <div class="field">
      <label for={id}>{label}</label>
      <div class="input-row">
        <input
          id={id} class="input" type={(shown ? 'text' : 'password') as 'password'} value={value} required
          autocomplete={fresh ? 'new-password' : 'current-password'} autocapitalize="off" spellcheck={false}
          aria-describedby={hint ? id + 'h' : undefined} onInput={(e) => onInput(e.currentTarget.value)}
        />
        <button type="button" class="button quiet" aria-pressed={shown} onClick={() => show(!shown)}>{t(shown ? 'password.hide' : 'password.show')}</button>
      </div>
      {hint && <div class="hint" id={id + 'h'}>{hint}</div>}
    </div>
  );
}

export function Switch({ checked, label, busy, onChange }: { checked: boolean; label: string; busy: boolean; onChange: (on: boolean) => void }) {
  return (
    <input
      type="checkbox" role="switch" class="switch" aria-label={label} checked={checked} aria-busy={busy || undefined}
      onChange={(e) => {
        const on = e.currentTarget.checked;
        e.currentTarget.checked = checked; // it moves when the box has recorded the decision
        if (!busy) onChange(on); // not disabled meanwhile: that would take the focus away
      }}
    />
  );
}

/** A problem in the box's own words; where the page cannot translate them, with its own words for the kind of problem first. */
export function ProblemNote({ problem, children }: { problem: Problem; children?: ComponentChildren }) {
  const title = translated(problem.title);
  // The kind's own title says less than the page's words for it.
  const own = (lang.value !== 'en' && title === problem.title) || !title || title === 'The request makes no sense';
  return (
    <div class={problem.kind === 'consent-required' ? 'note warn' : 'note bad'} role="alert">
      <Icon name={problem.kind === 'consent-required' ? 'consents' : 'warn'} />
      <div>
        <strong>{own ? word('problem', problem.kind) : title}</strong>
        {problem.detail && <p><Said of={problem.detail} /></p>}
        {problem.hint && <p><Said of={problem.hint} /></p>}
        {problem.kind === 'consent-required' && (problem.members['request_url']
          ? <p><a href={href('guardian')}>{t('guardian.go')}</a></p>
          : <p><a href={href('consents', String(problem.members['purpose'] ?? ''))}>{t('upload.toConsents')}</a></p>)}
        {children}
      </div>
    </div>
  );
}

/** A sentence of the box in the page's language, or in English where it has no other. */
export function Said({ of }: { of: string }) {
  const said = translated(of);
  return <span lang={said === of ? 'en' : undefined}>{inline(said)}</span>;
}

export function Note({ kind = 'info', icon, children }: { kind?: 'info' | 'good' | 'warn'; icon?: IconName; children: ComponentChildren }) {
  return (
    <div class={`note ${kind}`}>
      {icon && <Icon name={icon} />}
      <div>{children}</div>
    </div>
  );
}

/** What stands where there is nothing yet. */
export function Empty({ icon, title, children }: { icon: IconName; title: string; children?: ComponentChildren }) {
  return (
    <div class="empty">
      <Icon name={icon} />
      <p class="empty-title">{title}</p>
      {children}
    </div>
  );
}

/** Grey lines while the first answer is on its way. */
export function Loading() {
  return (
    <div class="loading" role="status">
      <span class="hidden">{t('loading')}</span>
      <i /><i /><i />
    </div>
  );
}

/** Draws a loaded value; its problem above an older value, or instead of it. */
export function Show<T>({ of, children }: { of: Loaded<T>; children: (v: T) => ComponentChildren }) {
  return (
    <>
      {of.problem && <ProblemNote problem={of.problem}><p><Button onClick={of.reload} icon="again">{t('again')}</Button></p></ProblemNote>}
      {of.value !== null ? children(of.value) : !of.problem && <Loading />}
    </>
  );
}

/** A modal dialog; it is open while it is drawn. */
export function Dialog({ title, onClose, children, wide }: { title: string; onClose: () => void; children: ComponentChildren; wide?: boolean }) {
  const ref = useRef<HTMLDialogElement>(null);
  const id = useId();
  useEffect(() => {
    const d = ref.current!;
    const before = document.activeElement;
    d.showModal();
    d.querySelector<HTMLElement>('form input:not([hidden])')?.focus();
    return () => {
      d.close();
      if (before instanceof HTMLElement) before.focus();
    };
  }, []);
  return (
    <dialog
      ref={ref} class={wide ? 'dialog wide' : 'dialog'} aria-labelledby={id}
      onCancel={(e) => {
        e.preventDefault();
        onClose();
      }}
      onClick={(e) => e.target === ref.current && onClose()}
    >
      <div class="dialog-body">
        <header>
          <h2 id={id}>{title}</h2>
          <IconButton icon="close" label={t('close')} onClick={onClose} />
        </header>
        {children}
      </div>
    </dialog>
  );
}

/** The head of a page. It takes the focus when the page changes, so that a screen reader says where it is. */
export function Head({ title, text, children }: { title: string; text?: string; children?: ComponentChildren }) {
  const ref = useRef<HTMLHeadingElement>(null);
  useEffect(() => {
    document.title = `${title} · Yunbox`;
  }, [title]);
  useEffect(() => {
    scrollTo(0, 0);
    ref.current?.focus({ preventScroll: true });
  }, []);
  return (
    <header class="head">
      <div>
        <h1 tabIndex={-1} ref={ref}>{title}</h1>
        {text && <p class="lead">{text}</p>}
      </div>
      {children && <div class="head-acts">{children}</div>}
    </header>
  );
}

interface Toast {
  text: string;
  act?: { label: string; run: () => void };
}
const toast = new Store<Toast | null>(null);
let toastTimer = 0;

/** Says for some seconds what has happened, with a way to undo it. */
export function say(text: string, act?: Toast['act']) {
  clearTimeout(toastTimer);
  toast.set({ text, act });
  toastTimer = setTimeout(() => toast.set(null), act ? 10_000 : 5_000);
}

export function Toasts() {
  const now = useStore(toast);
  return (
    <div class="toasts" role="status">
      {now && (
        <div class="toast">
          <span>{now.text}</span>
          {now.act && (
            <button type="button" onClick={() => { now.act!.run(); toast.set(null); }}>{now.act.label}</button>
          )}
        </div>
      )}
    </div>
  );
}

export async function copy(text: string) {
  try {
    await navigator.clipboard.writeText(text);
    say(t('copied'));
  } catch {
    say(t('copyFailed'));
  }
}

/** Lets the browser save a text as a file. */
export function save(text: string, type: string, name: string) {
  const url = URL.createObjectURL(new Blob([text], { type }));
  const a = document.createElement('a');
  a.href = url;
  a.download = name;
  a.click();
  setTimeout(() => URL.revokeObjectURL(url), 10_000);
}
