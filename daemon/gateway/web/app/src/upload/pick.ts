/** Files that were dropped, with their paths below the dropped folders. */
export async function dropped(data: DataTransfer): Promise<{ file: File; path: string }[]> {
  // Entries must be taken before the first await: the list is emptied with the event.
  const entries = [...data.items].filter((i) => i.kind === 'file').map((i) => ({ entry: i.webkitGetAsEntry(), file: i.getAsFile() }));
  const found: { file: File; path: string }[] = [];
  for (const { entry, file } of entries) {
    if (entry) await walk(entry, '', found);
    else if (file) found.push({ file, path: file.name });
  }
  return found;
}

async function walk(entry: FileSystemEntry, folder: string, found: { file: File; path: string }[]) {
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

/** Files of a picker; those of a folder come with their paths in it. */
export function picked(input: HTMLInputElement): { file: File; path: string }[] {
  const found = [...(input.files ?? [])].map((file) => ({ file, path: file.webkitRelativePath || file.name }));
  input.value = ''; // so that the same files can be chosen again
  return found;
}
