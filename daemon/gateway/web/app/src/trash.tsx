import { useState } from 'preact/hooks';
import { call, type Item } from './api';
import { useListing, Thumb } from './files';
import { Icon } from './icons';
import { date, size, t } from './i18n';
import { href } from './route';
import { Button, Dialog, Empty, Head, IconButton, Loading, ProblemNote, say, useAct } from './ui';

/** What was deleted and can be taken back, or deleted for good. */
export function TrashPage() {
  const listing = useListing({ trash: 'true' });
  const [doomed, doom] = useState<Item | null>(null);
  const act = useAct();
  const restore = (i: Item) =>
    act.run(async () => {
      await call('POST', `/v1/items/${i.id}/restore`);
      listing.drop(i.id);
      say(t('trash.restored', { name: i.name }));
    });
  const purge = (i: Item) =>
    act.run(async () => {
      doom(null);
      await call('DELETE', `/v1/items/${i.id}`);
      listing.drop(i.id);
      say(t('trash.purged', { name: i.name }));
    });
  const { list } = listing;
  return (
    <>
      <Head title={t('trash.title')} text={t('trash.text')}>
        <a class="button plain" href={href('files')}><Icon name="files" /><span>{t('trash.back')}</span></a>
      </Head>
      {(act.problem ?? listing.problem) && <ProblemNote problem={(act.problem ?? listing.problem)!} />}
      {!list && !listing.problem && <Loading />}
      {list?.items.length === 0 && <Empty icon="trash" title={t('trash.empty')} />}
      {list && list.items.length > 0 && (
        <table class="files">
          <thead>
            <tr>
              <th scope="col">{t('files.name')}</th>
              <th scope="col" class="num">{t('files.size')}</th>
              <th scope="col">{t('trash.when')}</th>
              <th scope="col"><span class="hidden">{t('files.acts')}</span></th>
            </tr>
          </thead>
          <tbody>
            {list.items.map((i) => (
              <tr key={i.id}>
                <th scope="row" class="name"><span class="thing"><Thumb item={i} /><span class="thing-name">{i.name}<small>{i.path !== i.name && i.path}</small></span></span></th>
                <td class="num">{size(i.size)}</td>
                <td>{i.trashed && <time dateTime={i.trashed}>{date(i.trashed)}</time>}</td>
                <td class="acts">
                  <IconButton icon="restore" label={t('trash.restore', { name: i.name })} onClick={() => void restore(i)} />
                  <IconButton icon="close" label={t('trash.purge', { name: i.name })} onClick={() => doom(i)} />
                </td>
              </tr>
            ))}
          </tbody>
        </table>
      )}
      {list?.next && <div class="load-more"><Button busy={listing.busy} onClick={listing.more}>{t('files.more')}</Button></div>}
      {doomed && (
        <Dialog title={t('trash.sure')} onClose={() => doom(null)}>
          <p>{t('trash.sureText', { name: doomed.name })}</p>
          <div class="row-end">
            <Button onClick={() => doom(null)}>{t('cancel')}</Button>
            <Button kind="danger" onClick={() => void purge(doomed)}>{t('trash.purgeShort')}</Button>
          </div>
        </Dialog>
      )}
    </>
  );
}
