// Where things are: paths in the repository.

import { fileURLToPath } from 'node:url'

/** The absolute path of a file or folder that is named from the repository's root. */
export const repository = (path) => fileURLToPath(new URL(`../../${path}`, import.meta.url))
