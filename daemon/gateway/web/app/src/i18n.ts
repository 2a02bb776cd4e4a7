import en from './i18n/en.json';
import zh from './i18n/zh.json';
import server from './i18n/server.zh.json';
import { memory, Store } from './store';

export type Lang = 'en' | 'zh';
export type Key = keyof typeof en;
type Params = Record<string, string | number>;

const tags: Record<Lang, string> = { en: 'en', zh: 'zh-CN' };
/** The person's own region decides how dates and numbers look, where it speaks the page's language. */
const region = (l: Lang) => navigator.languages.find((tag) => tag.toLowerCase().startsWith(l)) ?? tags[l];

function preferred(): Lang {
  const kept = memory.get('yunbox.lang');
  if (kept === 'en' || kept === 'zh') return kept;
  for (const tag of navigator.languages) {
    if (tag.toLowerCase().startsWith('zh')) return 'zh';
    if (tag.toLowerCase().startsWith('en')) return 'en';
  }
  return 'en';
}

export const lang = new Store<Lang>(preferred());
document.documentElement.lang = tags[lang.value];

export function setLang(l: Lang) {
  memory.set('yunbox.lang', l);
  document.documentElement.lang = tags[l];
  lang.set(l);
}

/**
 * The text of a key in the page's language. {name} is replaced by a parameter;
 * {name|one|other} by one of two words, chosen by the parameter's plural.
 */
export const t = table(en, zh);

/** t for the texts of a part of the page that is fetched when it is wanted. */
export function table<K extends string>(en: Record<K, string>, zh: Record<K, string>) {
  return (key: K, params: Params = {}): string => fill(lang.value === 'zh' ? zh[key] : en[key], params);
}

function fill(text: string, params: Params): string {
  return text.replace(/\{(\w+)(?:\|([^|}]*)\|([^}]*))?\}/g, (_, name: string, one?: string, other?: string) => {
    const v = params[name];
    if (one !== undefined) return new Intl.PluralRules(tags[lang.value]).select(Number(v)) === 'one' ? one : other!;
    return typeof v === 'number' ? number(v) : String(v);
  });
}

/** The text of a key that is made of a prefix and a server's word, or the word itself if the page does not know it. */
export function word(prefix: 'source' | 'role' | 'kind' | 'state' | 'problem' | 'outcome' | 'stage' | 'record' | 'field' | 'place', w: string): string {
  const key = `${prefix}.${w}`;
  return key in en ? t(key as Key) : w;
}

export function number(n: number): string {
  return new Intl.NumberFormat(region(lang.value)).format(n);
}

/** Bytes in decimal units, as disks are sold: 12.3 MB. */
export function size(bytes: number): string {
  const units = ['byte', 'kilobyte', 'megabyte', 'gigabyte', 'terabyte', 'petabyte'];
  let u = 0;
  while (bytes >= 999.5 && u < units.length - 1) {
    bytes /= 1000;
    u++;
  }
  const digits = u === 0 || bytes >= 99.5 ? 0 : 1;
  if (u === 0) return `${number(bytes)} B`;
  return new Intl.NumberFormat(region(lang.value), { style: 'unit', unit: units[u], unitDisplay: 'short', maximumFractionDigits: digits }).format(bytes);
}

export function percent(part: number, whole: number): string {
  return new Intl.NumberFormat(region(lang.value), { style: 'percent' }).format(whole > 0 ? part / whole : 0);
}

export function date(time: string): string {
  return new Intl.DateTimeFormat(region(lang.value), { dateStyle: 'medium' }).format(new Date(time));
}

export function dateTime(time: string): string {
  return new Intl.DateTimeFormat(region(lang.value), { dateStyle: 'medium', timeStyle: 'short' }).format(new Date(time));
}

/** A rough duration: one unit is enough to decide whether to wait. */
export function duration(seconds: number): string {
  const [unit, n] = seconds < 60 ? ['second', seconds] : seconds < 3600 ? ['minute', seconds / 60] : ['hour', seconds / 3600];
  return new Intl.NumberFormat(region(lang.value), { style: 'unit', unit: unit as string, unitDisplay: 'long' }).format(Math.max(1, Math.round(n as number)));
}

const patterns: { match: RegExp; chinese: string }[] = [];

/** Takes in sentences of the box with their translation, of a part of the page too. */
export function learn(sentences: Record<string, string>) {
  for (const [english, chinese] of Object.entries(sentences)) {
    // {} stands for a part that differs each time.
    patterns.push({ match: new RegExp('^' + english.split('{}').map((s) => s.replace(/[.*+?^${}()|[\]\\]/g, '\\$&')).join('(.*)') + '$'), chinese });
  }
}
learn(server);

/** What the box said in English, in the page's language if the page knows the sentence. */
export function translated(sentence: string): string {
  if (lang.value === 'en') return sentence;
  for (const p of patterns) {
    const m = p.match.exec(sentence);
    let n = 1;
    if (m) return p.chinese.replace(/\{\}/g, () => translated(m[n++] ?? ''));
  }
  return sentence;
}
