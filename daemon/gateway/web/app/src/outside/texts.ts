import { lang, learn, table } from '../i18n';
import en from './en.json';
import zh from './zh.json';
import server from './server.zh.json';

learn(server);

export const o = table(en, zh);
export type OutsideKey = keyof typeof en;

/** Words of the box that the page knows. */
const words: OutsideKey[] = [
  'kind.export', 'kind.second_copy', 'kind.email', 'kind.sign_in_ask', 'kind.sign_in', 'kind.link', 'kind.update_check', 'kind.update_fetch', 'kind.statistics', 'kind.publication', 'to.the person', 'to.an encrypted disk of the owner', 'to.everybody who opens the page', 'basis.person', 'basis.consent', 'basis.clause', 'basis.owner', 'about.person', 'about.everyone', 'about.nobody', 'data.everything', 'data.email_address', 'data.incident', 'data.network_address', 'data.sign_in_code', 'data.time_of_sign_in', 'data.application_number', 'data.os_type', 'data.app_version', 'data.sums',
];

/** A word of the box in the page's language, or as it is. */
export function say(prefix: 'kind' | 'to' | 'basis' | 'about' | 'data', w: string): string {
  const key = words.find((k) => k === `${prefix}.${w}`);
  return key ? o(key) : w.replaceAll('_', ' ');
}

export interface Text { title: string; what: string; effect: string; measures: string; advice: string; remedies: string }
export interface Incident { id: string; happened: string; sent: string; contact: string; text: Record<string, Text | undefined>; seen: string | null }

/** The text in the page's language, or in the other one with its name. */
export function textOf(of: Record<string, Text | undefined>): { text: Text; lang: string } {
  const own = lang.value;
  const l = of[own] ? own : own === 'en' ? 'zh' : 'en';
  return { text: of[l]!, lang: l === 'zh' ? 'zh-CN' : 'en' };
}
