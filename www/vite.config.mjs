// The page is served from wherever a node puts it, so every path in it is relative. With
// SELKIE_FAKE=1 the package `selkie` is replaced by a scripted stand-in, for the tests of the page
// alone; that build goes to a folder of its own and can't be mistaken for the one that ships.
import { fileURLToPath } from 'node:url'
import { defineConfig } from 'vite'

const here = (path) => fileURLToPath(new URL(path, import.meta.url))

export default defineConfig(() => {
  const fake = process.env.SELKIE_FAKE === '1'
  return {
    root: here('.'),
    base: './',
    resolve: { alias: fake ? { selkie: here('test/fake-selkie.ts') } : {} },
    build: {
      outDir: here(fake ? 'test/dist' : 'dist'),
      emptyOutDir: true,
      target: 'es2022',
      // The wasm and the icon stay files of their own, so that they stream and cache.
      assetsInlineLimit: 0,
      modulePreload: { polyfill: false },
      reportCompressedSize: false,
    },
    // A package that finds its wasm by `import.meta.url` must not be moved by the dev server.
    optimizeDeps: { exclude: ['selkie'] },
    server: { host: '127.0.0.1', fs: { allow: [here('..')] } },
  }
})
