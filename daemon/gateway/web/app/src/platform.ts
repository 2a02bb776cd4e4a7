const ua = navigator.userAgent;

/** iPhone or iPad; an iPad says that it is a Mac, but no Mac has a touch screen. */
export const ios = /iPhone|iPad|iPod/.test(ua) || (/Macintosh/.test(ua) && navigator.maxTouchPoints > 1);
export const android = /Android/.test(ua);

/** What people call the thing that this page is open on. */
export const machine: 'phone' | 'tablet' | 'computer' =
  /iPhone|iPod|Android.*Mobile/.test(ua) ? 'phone' : ios || android ? 'tablet' : 'computer';
