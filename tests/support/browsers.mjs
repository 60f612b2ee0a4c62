// Headless browsers, and pages in them that can import the npm package.

import { mkdir } from 'node:fs/promises'
import puppeteer from 'puppeteer-core'
import { PATIENCE } from './lines.mjs'
import { repository } from './paths.mjs'

const CHROMIUM = [
  '--headless',
  '--no-sandbox',
  '--disable-gpu',
  '--no-first-run',
  '--disable-background-networking',
  '--disable-component-update',
  '--disable-sync',
]

/**
 * What Firefox logs of a WebSocket that is given up: one that is open when its worker ends, as it does by `stop`, and
 * one that was still connecting when another transport had won. No error of anyone's: a failed dial is an event.
 */
const GIVEN_UP =
  /^Error: (The connection to ws:\S+ was interrupted while the page was loading|Firefox can’t establish a connection to the server at ws:\S+)\.$/

/** The browsers that everything is tested in. */
export const BROWSERS = ['chromium', 'firefox']

/**
 * Starts a browser with a new profile. It takes the TLS certificate whose public key has the SHA-256 `trusted` (in base64), though no CA has
 * signed it; Firefox, which knows no such list, takes any then.
 */
export async function launch(name, { trusted } = {}) {
  return name === 'firefox'
    ? puppeteer.launch({
        browser: 'firefox',
        executablePath: process.env.FIREFOX ?? '/usr/bin/firefox-esr',
        headless: true,
        acceptInsecureCerts: trusted !== undefined,
      })
    : puppeteer.launch({
        executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium',
        args: trusted
          ? [...CHROMIUM, `--ignore-certificate-errors-spki-list=${trusted}`]
          : CHROMIUM,
      })
}

/**
 * A page at an address, in a profile of its own unless `beside` names a page to share it with. Errors
 * that nobody caught are kept in `page.errors`.
 */
export async function openPage(browser, url, { beside, width = 1280, height = 900 } = {}) {
  const context = beside?.browserContext() ?? (await browser.createBrowserContext())
  const page = await context.newPage()
  page.setDefaultTimeout(PATIENCE)
  page.errors = []
  page.on('pageerror', (error) => GIVEN_UP.test(error) || page.errors.push(String(error)))
  await page.setViewport({ width, height })
  await page.goto(url)
  return page
}

/** A picture of the page in target/screenshots. */
export async function screenshot(page, name) {
  const folder = repository('target/screenshots')
  await mkdir(folder, { recursive: true })
  await page.screenshot({ path: `${folder}/${name}.png` })
}
