import { useEffect, useState } from 'preact/hooks';
import { call } from './api';
import { t, type Key } from './i18n';

const MIN = 8;

interface Judged {
  ok: boolean;
  score: number;
  reason: string | null;
}

const reasons: Record<string, Key> = {
  short: 'password.short', common: 'password.simple', personal: 'password.name', pattern: 'password.pattern', repeat: 'password.repeat', date: 'password.date',
};

/** What the box thinks of a new password, while it is typed: the same that decides when it is sent. */
export function PasswordHint({ password, username }: { password: string; username: string }) {
  const [judged, set] = useState<Judged | null>(null);
  const short = [...password].length < MIN;
  useEffect(() => {
    let current = true;
    if (short) {
      set(null);
      return;
    }
    const timer = setTimeout(() => {
      call<Judged>('POST', '/v1/passwords/strength', { password, username: username.trim() }, true)
        .then((j) => current && set(j), () => current && set(null)); // only a hint: without one the box says it later
    }, 250);
    return () => {
      current = false;
      clearTimeout(timer);
    };
  }, [password, username]);
  if (!password || (!short && !judged)) return <>{t('password.rule', { n: MIN })}</>;
  const level = short ? 1 : Math.max(judged!.score, 1);
  const text: Key = short ? 'password.short'
    : !judged!.ok ? reasons[judged!.reason ?? ''] ?? 'password.weak'
    : level === 2 ? 'password.fair' : level === 3 ? 'password.good' : 'password.strong';
  return (
    <span class="strength">
      <meter min={0} max={4} low={2} high={3} optimum={4} value={level} aria-label={t('password.strength')} />
      <span role="status">{t(text, { n: MIN })}</span>
    </span>
  );
}
