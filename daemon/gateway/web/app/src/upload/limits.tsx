import { t } from '../i18n';
import { android, ios, machine } from '../platform';
import { hasHandles } from './pick';
import { shelf } from './shelf';

/** What a browser cannot do, and what the person must do about it. Only what is true of this browser is said. */
export function Limits({ open }: { open: boolean }) {
  const hand = machine !== 'computer';
  const awake = !!navigator.wakeLock;
  const lines = [
    t(!hand ? 'limits.open' : awake ? 'limits.awake' : 'limits.screen'),
    hand && t('limits.background'),
    t(!shelf.works ? 'limits.forgets' : hasHandles() ? 'limits.handles' : 'limits.choose'),
    ios && t('limits.ios'),
    ios && t('limits.icloud'),
    android && t('limits.android'),
    !window.isSecureContext && t('limits.plain'),
    t('limits.shared'),
  ].filter(Boolean);
  return (
    <details class="card more-card" open={hand && open}>
      <summary><h2>{t('limits.title')}</h2></summary>
      <ul class="bullets">{lines.map((l) => <li>{l}</li>)}</ul>
    </details>
  );
}
