import { t, type Key } from './i18n';

export const MIN_PASSWORD = 10;

/** What the box will find wrong with a new password, as far as a page can tell; it has the last word. */
export function weakness(password: string, username: string): Key | null {
  const folded = password.toLowerCase();
  if ([...password].length < MIN_PASSWORD) return 'password.short';
  if (username.length >= 3 && folded.includes(username.toLowerCase())) return 'password.name';
  if (new Set(folded).size < 5) return 'password.simple';
  return null;
}

export function PasswordHint({ password, username }: { password: string; username: string }) {
  if (!password) return <>{t('password.rule', { n: MIN_PASSWORD })}</>;
  const weak = weakness(password, username);
  const length = [...password].length;
  const level = weak ? 1 : length < 14 ? 2 : 3;
  return (
    <span class="strength">
      <meter min={0} max={3} low={2} high={3} optimum={3} value={level} aria-label={t('password.strength')} />
      <span role="status">{weak ? t(weak, { n: MIN_PASSWORD }) : t(level === 2 ? 'password.fair' : 'password.strong')}</span>
    </span>
  );
}
