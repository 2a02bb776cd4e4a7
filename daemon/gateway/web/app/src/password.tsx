import { t, type Key } from './i18n';

const MIN = 8;

/**
 * What the box will find wrong with a new password, as far as a page can tell.
 * The box has the last word: it also knows the most common passwords.
 */
export function weakness(password: string, username: string): Key | null {
  const p = password.toLowerCase(), name = username.trim().toLowerCase();
  const chars = [...p];
  if (chars.length < MIN) return 'password.short';
  if (name && (p === name || (name.length >= 4 && /^[0-9!.@_-]*$/.test(p.replaceAll(name, ''))))) return 'password.name';
  const repeats = [1, 2, 3].some((n) => chars.every((c, i) => c === chars[i % n]));
  const runs = [1, -1].some((step) => chars.every((c, i) => i === 0 || c.codePointAt(0)! === chars[i - 1]!.codePointAt(0)! + step));
  return repeats || runs ? 'password.simple' : null;
}

export function PasswordHint({ password, username }: { password: string; username: string }) {
  if (!password) return <>{t('password.rule', { n: MIN })}</>;
  const weak = weakness(password, username);
  const level = weak ? 1 : [...password].length < 14 ? 2 : 3;
  return (
    <span class="strength">
      <meter min={0} max={3} low={2} high={3} optimum={3} value={level} aria-label={t('password.strength')} />
      <span role="status">{weak ? t(weak, { n: MIN }) : t(level === 2 ? 'password.fair' : 'password.strong')}</span>
    </span>
  );
}
