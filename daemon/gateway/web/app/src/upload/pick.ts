/** A file that a person chose. */
export interface Picked {
  file: File;
  path: string; // below the chosen folder, or the name alone
  handle?: FileSystemFileHandle; // by which the file can be had again after a reload, where the browser has such
  root?: FileSystemDirectoryHandle; // the chosen folder, whose permission counts for all that is in it
}

interface WithHandle {
  getAsFileSystemHandle?: () => Promise<FileSystemHandle | null>;
}

/** Files that were dropped, with their paths below the dropped folders. */
export async function dropped(data: DataTransfer): Promise<Picked[]> {
  // Entries must be taken before the first await: the list is emptied with the event.
  const entries = [...data.items].filter((i) => i.kind === 'file').map((i) => ({
    entry: i.webkitGetAsEntry(), file: i.getAsFile(), handle: (i as WithHandle).getAsFileSystemHandle?.().catch(() => null),
  }));
  const found: Picked[] = [];
  for (const { entry, file, handle: promise } of entries) {
    const handle = await promise;
    if (isFolder(handle)) await walkHandle(handle, handle, handle.name + '/', found);
    else if (handle && file) found.push({ file, path: file.name, handle: handle as FileSystemFileHandle });
    else if (entry) await walk(entry, '', found);
    else if (file) found.push({ file, path: file.name });
  }
  return found;
}

async function walk(entry: FileSystemEntry, folder: string, found: Picked[]) {
  const path = folder + entry.name;
  if (entry.isFile) {
    const file = await new Promise<File>((ok, no) => (entry as FileSystemFileEntry).file(ok, no));
    found.push({ file, path });
  } else {
    const reader = (entry as FileSystemDirectoryEntry).createReader();
    for (;;) {
      // A reader gives its entries in pieces and ends with an empty one.
      const some = await new Promise<FileSystemEntry[]>((ok, no) => reader.readEntries(ok, no));
      if (some.length === 0) break;
      for (const e of some) await walk(e, path + '/', found);
    }
  }
}

async function walkHandle(dir: FileSystemDirectoryHandle, root: FileSystemDirectoryHandle, folder: string, found: Picked[]) {
  for await (const h of (dir as unknown as { values(): AsyncIterable<FileSystemHandle> }).values()) {
    if (isFolder(h)) await walkHandle(h, root, folder + h.name + '/', found);
    else found.push({ file: await (h as FileSystemFileHandle).getFile(), path: folder + h.name, handle: h as FileSystemFileHandle, root });
  }
}

// By kind, not by class: the classes do not exist where the connection is not secure.
const isFolder = (h: FileSystemHandle | null | undefined): h is FileSystemDirectoryHandle => h?.kind === 'directory';

/** Files of a picker; those of a folder come with their paths in it. */
export function picked(input: HTMLInputElement): Picked[] {
  const found = [...(input.files ?? [])].map((file) => ({ file, path: file.webkitRelativePath || file.name }));
  input.value = ''; // so that the same files can be chosen again
  return found;
}

interface Pickers {
  showOpenFilePicker?: (o: { multiple: boolean; types?: { accept: Record<string, string[]> }[] }) => Promise<FileSystemFileHandle[]>;
  showDirectoryPicker?: () => Promise<FileSystemDirectoryHandle>;
}
const pickers = () => window as unknown as Pickers;

/** Whether what is chosen can be found again after a reload without being chosen again. */
export const hasHandles = () => 'showOpenFilePicker' in window;
/** Whether a whole folder can be chosen. */
export const hasFolders = () => 'showDirectoryPicker' in window || 'webkitdirectory' in HTMLInputElement.prototype;

/**
 * Lets the person choose by the picker whose files can be found again after a
 * reload. null: this browser has none, or does not let us; use a file input.
 */
export async function choose(what: 'media' | 'files' | 'folder'): Promise<Picked[] | null> {
  const { showOpenFilePicker, showDirectoryPicker } = pickers();
  const found: Picked[] = [];
  try {
    if (what === 'folder') {
      if (!showDirectoryPicker) return null;
      const root = await showDirectoryPicker.call(window);
      await walkHandle(root, root, root.name + '/', found);
    } else {
      if (!showOpenFilePicker) return null;
      const types = what === 'media' ? { types: [{ accept: { 'image/*': [], 'video/*': [] } }] } : {};
      for (const handle of await showOpenFilePicker.call(window, { multiple: true, ...types })) {
        const file = await handle.getFile();
        found.push({ file, path: file.name, handle });
      }
    }
    return found;
  } catch (e) {
    return e instanceof DOMException && e.name === 'AbortError' ? [] : null; // AbortError: the person chose nothing
  }
}

interface Permitted {
  queryPermission?: (o: { mode: 'read' }) => Promise<PermissionState>;
  requestPermission?: (o: { mode: 'read' }) => Promise<PermissionState>;
}

/** Whether a kept handle may be read; with ask the browser may ask the person, which needs their tap. */
export async function permitted(handle: FileSystemHandle, ask: boolean): Promise<boolean> {
  const h = handle as Permitted;
  try {
    let state = (await h.queryPermission?.({ mode: 'read' })) ?? 'granted';
    if (state === 'prompt' && ask) state = (await h.requestPermission?.({ mode: 'read' })) ?? 'denied';
    return state === 'granted';
  } catch {
    return false;
  }
}
