import { Icon } from './icons';
import { t } from './i18n';
import { href } from './route';

/** The way to the pages about oneself, which are fetched when they are opened. */
export function DataCard() {
  return (
    <section class="card">
      <h2>{t('data.title')}</h2>
      <p>{t('data.card')}</p>
      <p>
        <a class="button plain" href={href('data')}><Icon name="receipt" /><span>{t('data.open')}</span></a>{' '}
        <a class="button plain" href={href('me')}><Icon name="account" /><span>{t('me.open')}</span></a>{' '}
        <a class="button plain" href={href('rights')}><Icon name="consents" /><span>{t('rights.open')}</span></a>
      </p>
    </section>
  );
}
