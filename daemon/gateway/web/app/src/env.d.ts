/** Set by the bundler. */
declare const WORKER_URL: string;
declare const LICENSES_URL: string;
