/** Line icons of 24 units, drawn with the text's colour. */
const paths = {
  files: 'M3 7a2 2 0 0 1 2-2h4l2 2h8a2 2 0 0 1 2 2v8a2 2 0 0 1-2 2H5a2 2 0 0 1-2-2z',
  folder: 'M3 7a2 2 0 0 1 2-2h4l2 2h8a2 2 0 0 1 2 2v8a2 2 0 0 1-2 2H5a2 2 0 0 1-2-2z',
  upload: 'M12 15V4M7.5 8 12 3.5 16.5 8M4 15v3a2 2 0 0 0 2 2h12a2 2 0 0 0 2-2v-3',
  download: 'M12 4v11M7.5 11l4.5 4.5 4.5-4.5M4 16v2a2 2 0 0 0 2 2h12a2 2 0 0 0 2-2v-2',
  consents: 'M12 3l7 2.5V11c0 4.5-3 8-7 10-4-2-7-5.5-7-10V5.5zM8.5 12l2.5 2.5 4.5-5',
  storage: 'M4 6.5C4 5 7.6 4 12 4s8 1 8 2.5S16.400 9 12 9 4 8 4 6.5zM4 6.5v11C4 19 7.6 20 12 20s8-1 8-2.5v-11M4 12c0 1.5 3.6 2.5 8 2.5s8-1 8-2.5',
  account: 'M12 12a4 4 0 1 0 0-8 4 4 0 0 0 0 8zM4.5 20c.8-3.5 3.800-5 7.5-5s6.7 1.5 7.5 5',
  trash: 'M4 7h16M9 7V4.5h6V7M6 7l1 13h10l1-13M10 11v5M14 11v5',
  restore: 'M4 5v5h5M4.5 10A8 8 0 1 1 4 13',
  image: 'M4 5h16v14H4zM4 16l4.5-4.5 4 4 3-3L20 17M15.5 9.5h.01',
  video: 'M3 6h13v12H3zM16 10l5-3v10l-5-3',
  audio: 'M9 18V6l10-2v12M9 18a2.5 2.5 0 1 1-5 0 2.5 2.5 0 0 1 5 0zM19 16a2.5 2.5 0 1 1-5 0 2.5 2.5 0 0 1 5 0z',
  file: 'M6 3h8l4 4v14H6zM14 3v4h4',
  chevron: 'M9 5l7 7-7 7',
  check: 'M5 12.5l4.5 4.5L19 7',
  pause: 'M8 5v14M16 5v14',
  play: 'M7 4.5v15l12-7.5z',
  close: 'M6 6l12 12M18 6L6 18',
  again: 'M20 5v5h-5M19.5 10A8 8 0 1 0 20 13',
  warn: 'M12 4l9 16H3zM12 10v4.5M12 17.5h.01',
  copy: 'M9 9h11v11H9zM5 15H4V4h11v1',
  plus: 'M12 5v14M5 12h14',
  out: 'M14 4h4a2 2 0 0 1 2 2v12a2 2 0 0 1-2 2h-4M10 8l-4 4 4 4M6 12h9',
  device: 'M7 3h10v18H7zM11 18h2',
  key: 'M14.5 9.5a4.5 4.5 0 1 1-1.7-3.5 4.5 4.5 0 0 1 1.7 3.5zM13 12.5l7 7M17 16.5l2-2',
  receipt: 'M6 3h12v18l-3-2-3 2-3-2-3 2zM9 8h6M9 12h6',
} as const;

export type IconName = keyof typeof paths;

export function Icon({ name, class: extra = '' }: { name: IconName; class?: string }) {
  return (
    <svg class={`icon ${extra}`} viewBox="0 0 24 24" aria-hidden="true" focusable="false">
      <path d={paths[name]} />
    </svg>
  );
}

export function Logo() {
  return (
    <svg class="logo" viewBox="0 0 32 32" aria-hidden="true" focusable="false">
      <rect class="logo-back" width="32" height="32" rx="8" />
      <path class="logo-front" d="M7 15.5a9 9 0 0 1 18 0V23a2 2 0 0 1-2 2H9a2 2 0 0 1-2-2z" />
      <path class="logo-line" d="M7 17h18" />
      <circle class="logo-dot" cx="21" cy="21" r="1.5" />
    </svg>
  );
}

/** The icon of a file by its name. */
export function iconOf(name: string): IconName {
  const ext = name.slice(name.lastIndexOf('.') + 1).toLowerCase();
  if (/^(jpe?g|png|gif|webp|avif|heic|heif|bmp|tiff?|dng|cr[23]|nef|arw|raf|orf|rw2|svg)$/.test(ext)) return 'image';
  if (/^(mp4|mov|m4v|mkv|avi|webm|3gp|mts|m2ts|mpe?g)$/.test(ext)) return 'video';
  if (/^(mp3|m4a|aac|flac|wav|ogg|opus|amr|silk)$/.test(ext)) return 'audio';
  return 'file';
}

/** Whether a browser can show the file as a picture. */
export const isPicture = (name: string) => /\.(jpe?g|png|gif|webp|avif|bmp)$/i.test(name);
