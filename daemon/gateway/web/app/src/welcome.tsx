import { t } from './i18n';
import { PurposeList, PolicyCard } from './consents';
import { useConsents } from './decide';
import { endWelcome } from './session';
import { go } from './route';
import { Button, Head, Show } from './ui';

/** After binding: the policy and each purpose, all still off. */
export function Welcome() {
  const consents = useConsents();
  return (
    <>
      <Head title={t('welcome.title')} text={t('welcome.text')} />
      <Show of={consents}>
        {(c) => (
          <>
            <PolicyCard consents={c} changed={consents.reload} open />
            <PurposeList consents={c} changed={consents.reload} />
          </>
        )}
      </Show>
      <div class="end">
        <p class="hint">{t('welcome.later')}</p>
        <Button kind="main" onClick={() => { endWelcome(); go('files'); }}>{t('welcome.go')}</Button>
      </div>
    </>
  );
}
