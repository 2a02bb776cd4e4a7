import { table } from '../i18n';
import en from './en.json';
import zh from './zh.json';

/** The texts of this part of the page. */
export const d = table(en, zh);
