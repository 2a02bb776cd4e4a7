import { learn, table } from '../i18n';
import en from './en.json';
import zh from './zh.json';
import server from './server.zh.json';

learn(server);

export const b = table(en, zh);
