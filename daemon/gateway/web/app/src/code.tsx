import { useEffect, useId, useRef, useState } from 'preact/hooks';
import { t } from './i18n';

/** The code of an authenticator, or a recovery code in its place. */
export function CodeField({ value, onInput, only, focus }: { value: string; onInput: (v: string) => void; only?: boolean; focus?: boolean }) {
  const [recovery, setRecovery] = useState(false);
  const id = useId();
  const ref = useRef<HTMLInputElement>(null);
  useEffect(() => {
    if (focus || recovery) ref.current!.focus();
  }, [recovery]);
  return (
    <div class="field">
      <label for={id}>{t(recovery ? 'code.recovery' : 'code.label')}</label>
      <input
        id={id} key={String(recovery)} ref={ref} class="input code" type="text" required value={value} spellcheck={false} autocapitalize="off" aria-describedby={id + 'h'}
        {...(recovery ? { autocomplete: 'off', maxLength: 40 } : { autocomplete: 'one-time-code', inputMode: 'numeric', maxLength: 12, pattern: '[0-9 \\-]*' })}
        onInput={(e) => onInput(e.currentTarget.value)}
      />
      <p class="hint" id={id + 'h'}>{t(recovery ? 'code.recoveryHint' : 'code.hint')}</p>
      {!only && <button type="button" class="link" onClick={() => { onInput(''); setRecovery(!recovery); }}>{t(recovery ? 'code.useApp' : 'code.useRecovery')}</button>}
    </div>
  );
}
