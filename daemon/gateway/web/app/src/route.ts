import { Store } from './store';

/** The page's address is the part behind '#': the first word names the page, the rest belongs to it. */
export interface Route {
  page: string;
  rest: string;
}

function parse(): Route {
  const [page = '', ...rest] = location.hash.replace(/^#\/?/, '').split('/');
  try {
    return { page, rest: rest.map(decodeURIComponent).join('/') };
  } catch {
    return { page, rest: '' };
  }
}

export const route = new Store<Route>(parse());
addEventListener('hashchange', () => route.set(parse()));

export const href = (page: string, rest = '') => `#/${page}${rest ? '/' + rest.split('/').map(encodeURIComponent).join('/') : ''}`;

export function go(page: string, rest = '') {
  location.hash = href(page, rest);
}
