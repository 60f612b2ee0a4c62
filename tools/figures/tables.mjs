// What stands between the markers of the documents: each template is given `figure(group, name)` and returns Markdown. A template that
// is a table begins and ends with an empty line; one that is not stands within a line.

/** As people write it: 501,000; 73; 1.85; 0.647. What has no end is null in JSON. */
const number = (value) => {
  if (value === null) return '∞'
  if (value >= 1000) return Math.round(value).toLocaleString('en-US')
  return String(Number(value.toPrecision(value >= 100 ? 4 : 3)))
}
const rough = (value) => number(value && Number(value.toPrecision(3)))
/** The least and the most of the rounds, where they are known. */
const between = (spread, shown = rough) => (spread ? ` (${spread.map(shown).join(' to ')})` : '')
/** A figure and what it stands beside, each with its spread. */
const measured = ({ value, spread }, unit = '') => number(value) + unit + between(spread)
const beside = ({ baseline, baseline_spread: spread }, unit = '') =>
  number(baseline) + unit + between(spread)
const ratio = ({ value, baseline }) => Number((value / baseline).toPrecision(2))
const hundredths = ({ value, baseline }) => (value / baseline).toFixed(2)
/** Sizes that are compared with a limit keep their digits: 1.0012 is no 1. */
const megabytes = (value) => value.toFixed(3)
const milliseconds = (figure) => measured(figure, ' ms')
const verdict = ({ target, met }) => (target ? (met ? 'met' : 'missed') : '')
/** A target without its words, where a column says what it is. */
const bound = ({ target }) => (target ? number(Number(/[\d.]+$/.exec(target)[0])) : '')

const row = (cells) => `| ${cells.join(' | ')} |`.replaceAll(/ (?= \|)/g, '')
/** Columns after the first are numbers, unless they are named as words. */
function table(head, rows, words = []) {
  const line = head.map((name, place) => (place === 0 || words.includes(name) ? '---' : '---:'))
  return `\n\n${[head, line, ...rows].map(row).join('\n')}\n\n`
}

/** What an attack did, in a cell: memory above rest, votes beside rest. */
const attack = (name) => (figure) => {
  const row = figure('attacks', name)
  const [rest, now] = [row.vote_p99_rest_ms, row.vote_p99_attack_ms].map((value) =>
    value.toFixed(1),
  )
  return `+${added(row)} MiB; votes ${now} ms (${rest} at rest)${row.broken.length ? ', over a limit' : ''}`
}
const added = (row) => Math.max(0, Math.round(row.memory_most_mib - row.memory_rest_mib))
/** The attacks that the README names. */
const NAMED = [
  'two-million-empty-items',
  'direct-large',
  'new-votes',
  'new-transactions',
  'gossip-flood',
  'announcements-of-nothing',
  'coded-announcements-by-16',
  'blocks-unread-by-32',
  'comparisons-and-reconnects',
  'packed-known-items-by-8',
  'unjoined-topics',
  'identify-pushes-without-pause',
  'no-hello',
  'silent-tcp',
  'reconnects',
  'messages-unfinished-by-32',
  'state-questions',
  'hellos',
]

/** Of a run in virtual time: the moments of one kind, as half of those due, 99 of 100 and all had come. */
const came = (run, kind) => run.figures?.kinds[kind]?.milliseconds
const moment = (value) =>
  value === undefined ? '' : value === null ? 'never' : `${Math.round(value)} ms`
const moments = (run, kind, from, to) =>
  (came(run, kind) ?? []).slice(from, to).map(moment).join(', ')
/** The part of the deliveries due that happened in time. */
const inTime = (run) =>
  run.verdicts.find(({ what }) => what === 'delivered')?.found.split(':')[0] ?? ''
const shown = (run, name, digits) => run.figures?.[name].toFixed(digits) ?? ''
const virtual = ({ sim }, begins) =>
  Object.entries(sim ?? {}).filter(([name]) => begins.some((begin) => name.startsWith(begin)))
const scenario = (name) => `\`${name.split(', ')[0].replace(/^.*\//, '')}\``
/** What every run keeps, and what says only that something was published. */
const USUAL = /^(publish\[|taken$|once_and_known$|honest_may_be_banned$)/

const propagation = 'propagation'
const half = 'p99 at half the rate'
const vote = 'a vote, under a flood, p99'

export const tables = {
  crowd(figure) {
    const of = (name) => figure('crowd', name)
    const rest = (name) => of(`at rest among 1000 peers, ${name}`)
    const bare = rest('memory a connection, beside bare libp2p')
    const memory = rest('memory a connection')
    const cpu = rest('CPU')
    const through = [10, 100, 1000].map((peers) => of(`a transaction, with ${peers} peers, CPU`))
    const blocks = [100, 300, 1000].map((peers) => [peers, of(`a block of 1 MB to ${peers} peers`)])
    return table(
      ['', 'Selkie', 'beside it', 'target', ''],
      [
        [
          'memory a connection, at rest among 1,000 peers, kB',
          measured(memory),
          `${beside(bare)}: bare libp2p`,
          bound(memory),
          verdict(memory),
        ],
        ['CPU at rest among 1,000 peers, of a core', measured(cpu), '', bound(cpu), verdict(cpu)],
        ...through.map((figure, place) => [
          `a transaction that goes through, with ${[10, 100, '1,000'][place]} peers, µs of CPU`,
          measured(figure),
          `${ratio(figure)} times that with 10`,
          bound(figure),
          verdict(figure),
        ]),
        ...blocks.map(([peers, figure]) => [
          `a block of 1 MB to ${peers.toLocaleString('en-US')} peers, s`,
          measured(figure),
          '',
          '',
          '',
        ]),
      ],
      ['beside it'],
    )
  },
  readme(figure) {
    const [gzip, brotli] = ['gzip -9', 'brotli -q 11'].map((name) =>
      figure('wasm', `wasm, ${name}`),
    )
    const of = (name) => figure(propagation, name)
    const tab = (name) => figure('browser', name)
    const [tcp, quic] = ['TCP', 'QUIC'].map((name) => of(`${name}, beside gossipsub`))
    const block = of('a known block, on the wire')
    const pools = of('comparing pools, bytes')
    const established = ['TCP', 'QUIC', 'WebSocket', 'WebRTC-direct']
      .map((name) => hundredths(figure('connect', `${name}, established, median`)))
      .sort()
    return table(
      ['', 'measured', 'how'],
      [
        [
          'the tab’s node, compressed',
          `${megabytes(gzip.value)} MB gzip, ${megabytes(brotli.value)} MB brotli`,
          gzip.command,
        ],
        [
          'from a clean clone to the page’s address',
          `${number(figure('clone', "until the page's address").value)} s on 2 cores`,
          './build.sh run',
        ],
        [
          'page opened to its first block, nothing cached (Chromium)',
          milliseconds(tab('page opened to first block')),
          './build.sh bench browser',
        ],
        [
          'the tab’s WebSocket dial to identify, a page’s first; later ones',
          `${milliseconds(tab('dial to identify, a page’s first'))}; ${milliseconds(tab('dial to identify, later ones'))}`,
          './build.sh bench browser',
        ],
        [
          '1 KiB echo over the tab’s WebSocket transport',
          milliseconds(tab('echo of 1024 bytes over the transport')),
          './build.sh bench browser',
        ],
        [
          'transactions from one process to another, each identified, deduplicated, checked, pooled and delivered (TCP; QUIC)',
          `${measured(tcp, '/s')}, ${ratio(tcp)} times gossipsub’s messages; ${measured(quic, '/s')}, ${ratio(quic)} times`,
          tcp.command,
        ],
        [
          'ten nodes, six links each: the rate at which all get everything, wire bytes per byte, p99 at half the rate',
          `${measured(of('ten nodes, rate'), '/s')}; ${measured(of('ten nodes, wire bytes per byte'))}; ${milliseconds(of(`ten nodes, ${half}`))}`,
          tcp.command,
        ],
        [
          'a vote’s p99 while transactions flood the same connection',
          `${milliseconds(of(vote))}; gossipsub ${beside(of(vote), ' ms')}`,
          tcp.command,
        ],
        [
          'a block of which 99% is known, on the wire',
          `${((100 * block.value) / block.baseline).toFixed(1)}% of its bytes`,
          tcp.command,
        ],
        [
          'comparing pools of 100,000 that differ by 1,000',
          `${(pools.value / 1000).toFixed(1)} kB; negentropy ${(pools.baseline / 1000).toFixed(0)} kB`,
          tcp.command,
        ],
        [
          'transactions that a tab takes in without a frame over 50 ms',
          measured(tab('transactions received, node in the page'), '/s'),
          './build.sh bench browser',
        ],
        [
          'native connection, beside bare libp2p',
          `${established.at(0)} to ${established.at(-1)} times its median`,
          './build.sh bench connect',
        ],
      ].map(([what, measured, how]) => [what, measured, `\`${how}\``]),
      ['how'],
    )
  },

  wasm: (figure) =>
    table(
      ['', 'MB', 'limit', 'Lumina as published', ''],
      ['raw', 'gzip -9', 'brotli -q 11'].map((name) => {
        const one = figure('wasm', `wasm, ${name}`)
        const other = one.baseline === null ? '' : beside(one)
        return [name, megabytes(one.value), one.target ?? '', other, verdict(one)]
      }),
      [''],
    ),

  connect: (figure) =>
    table(
      ['', 'Selkie', 'bare libp2p', 'ratio', ''],
      ['TCP', 'QUIC', 'WebSocket', 'WebRTC-direct'].flatMap((transport) =>
        ['established, median', 'established, p99', 'ready, median', 'CPU of both ends'].map(
          (what) => {
            const one = figure('connect', `${transport}, ${what}`)
            const numbers = [measured(one), beside(one)]
            return [`${transport}, ${what}`, ...numbers, hundredths(one), verdict(one)]
          },
        ),
      ),
      [''],
    ),

  'two-processes': (figure) =>
    table(
      ['', 'Selkie', 'gossipsub, one by one', 'ratio', 'packed blindly', 'ratio'],
      ['TCP', 'QUIC'].flatMap((transport) => {
        const of = (name) => figure(propagation, `${transport}, ${name}`)
        const [rate, single, packed] = [
          'transactions',
          'beside gossipsub',
          'beside blind packing',
        ].map(of)
        const cpu = ['sender', 'receiver'].map((side) => of(`CPU of the ${side}`))
        const times = (one) => `${ratio(one)} (target ${bound(one)}: ${verdict(one)})`
        return [
          [
            `${transport}, a second (target ${bound(rate)})`,
            `${measured(rate)}: ${verdict(rate)}`,
            beside(single),
            times(single),
            beside(packed),
            times(packed),
          ],
          [
            `${transport}, CPU of sender and receiver, µs each`,
            cpu.map((one) => measured(one)).join(' and '),
            cpu.map((one) => beside(one)).join(' and '),
            '',
            '',
            '',
          ],
        ]
      }),
    ),

  mesh(figure) {
    const of = (name) => figure(propagation, `ten nodes, ${name}`)
    const ours = of('beside gossipsub')
    const line = (what, one, shown, baseline = '') => [
      what,
      shown,
      baseline,
      bound(one),
      verdict(one),
    ]
    return table(
      ['', 'Selkie', 'gossipsub', 'target', ''],
      [
        line('highest rate, a second', of('rate'), measured(of('rate')), beside(ours)),
        line('beside gossipsub’s', ours, ratio(ours)),
        line(
          'wire bytes for each byte of payload, at half the rate',
          of('wire bytes per byte'),
          measured(of('wire bytes per byte')),
        ),
        line(
          'wire bytes for each byte of payload that came, at twice the rate',
          of('wire bytes per byte under overload'),
          measured(of('wire bytes per byte under overload')),
        ),
        line('p99 latency at half the rate', of(half), milliseconds(of(half))),
      ],
      [''],
    )
  },

  votes: (figure) =>
    table(
      ['', 'Selkie', 'gossipsub'],
      [
        ['alone', 'a vote, alone, p99'],
        ['while transactions flood the same connection', vote],
      ].map(([what, name]) => {
        const one = figure(propagation, name)
        return [what, milliseconds(one), beside(one, ' ms')]
      }),
    ),

  budgets: (figure) =>
    table(
      ['budget', 'medians, in parts of it', 'target'],
      [
        ['up, to all peers', 'sent'],
        ['up, to each', 'sent to a peer'],
        ['down, from all peers', 'read'],
        ['down, from each', 'read from a peer'],
      ].map(([what, name]) => {
        const one = figure(propagation, `wire bytes ${name} in 10 s`)
        const part = (value) => (value / one.baseline).toFixed(3)
        return [what, part(one.value) + between(one.spread, part), `${one.target}: ${verdict(one)}`]
      }),
      ['target'],
    ),

  pools(figure) {
    const of = (name) => figure(propagation, `comparing pools, ${name}`)
    const line = (what, name, unit) => [what, measured(of(name), unit), beside(of(name), unit)]
    const symbols = of('symbols')
    return table(
      ['', 'Selkie', 'negentropy 0.5'],
      [
        [
          `symbols for each difference (target ${bound(symbols)}: ${verdict(symbols)})`,
          symbols.value + between(symbols.spread),
          '',
        ],
        line('bytes', 'bytes'),
        line('round trips', 'round trips'),
        line('time of both sides', "both sides' time", ' ms'),
      ],
    )
  },

  tab: (figure) =>
    table(
      ['', 'Selkie', 'beside it, in the same run', 'target', ''],
      [
        'page opened to first block',
        'page opened to first block, Firefox',
        'dial to identify, a page’s first',
        'dial to identify, later ones',
        'dial to peer ready, a page’s first',
        'dial to peer ready, later ones',
        'echo of 1024 bytes over the transport',
        'ping, through Noise and Yamux',
        'request of 1024 bytes on a new stream, answered',
      ].map((name) => {
        const one = figure('browser', name)
        const other = `${beside(one)}: ${one.baseline_name}`
        return [name, measured(one), other, bound(one), verdict(one)]
      }),
      [''],
    ),

  flood: (figure) =>
    table(
      ['', 'node in the page', 'node in a worker', 'target', ''],
      [
        ['transactions that the page is handed, a second', 'transactions received', ''],
        ['longest time between two frames', 'longest time between two frames', ' ms'],
      ].map(([what, name, unit]) => {
        const places = ['page', 'worker'].map((place) =>
          figure('browser', `${name}, node in the ${place}`),
        )
        const shown = places.map((one) => measured(one, unit))
        const met = places.every((one) => one.met)
        return [what, ...shown, bound(places[0]) + unit, met ? 'met' : 'missed']
      }),
      [''],
    ),

  // Within a line.
  'rate-tcp': (figure) => measured(figure(propagation, 'TCP, transactions'), '/s'),
  'rate-quic': (figure) => measured(figure(propagation, 'QUIC, transactions'), '/s'),
  'vote-under-flood': (figure) => milliseconds(figure(propagation, vote)),
  'vote-beside-alone': (figure) =>
    String(ratio(figure(propagation, 'a vote, under a flood beside alone, p99'))),
  'mesh-p99': (figure) => milliseconds(figure(propagation, `ten nodes, ${half}`)),
  'mesh-useful': (figure) => {
    const useful = 100 / figure(propagation, 'ten nodes, wire bytes per byte').value
    return `${Math.round(useful)}%: ${useful >= 90 ? 'met' : 'missed'},`
  },
  'known-block': (figure) => {
    const { value, baseline } = figure(propagation, 'a known block, on the wire')
    return `${((100 * value) / baseline).toFixed(1)}%`
  },
  'known-block-bytes': (figure) => number(figure(propagation, 'a known block, on the wire').value),
  'known-block-after': (figure) =>
    milliseconds(figure(propagation, 'a known block, until it is delivered')),
  'new-block': (figure) => {
    const of = (what) => figure('simulation', `a new block of 1 MB, ${what}`).value
    return `${of('time')} of gossip’s time with ${of('bytes')} of its bytes`
  },
  'smaller-new-block': (figure) => {
    const of = (what) => figure('simulation', `a new block of 256 KiB, ${what}`).value
    return `${of('time')} and ${of('bytes')}`
  },
  established: (figure) => {
    const of = (transport) => figure('connect', `${transport}, established, median`).value
    const rest = ['TCP', 'QUIC', 'WebSocket'].map(of).sort((a, b) => a - b)
    return `${number(rest.at(0))} to ${number(rest.at(-1))} ms; WebRTC-direct ${number(of('WebRTC-direct'))} ms`
  },
  symbols: (figure) => String(figure(propagation, 'comparing pools, symbols').value),
  'clone-run': (figure) => `${figure('clone', "until the page's address").value} s`,
  'clone-ci': (figure) => `${number(figure('clone', 'everything that CI runs').value)} s`,

  attacks: (_, { attacks, 'attacks-before': before = {} }) =>
    table(
      [
        'attack',
        'peers',
        'memory, MiB',
        'votes, p99 ms',
        'CPU',
        'lost',
        'broken',
        'the attacker',
        'commit',
      ],
      Object.entries(attacks).map(([name, row]) => {
        const old = before[name]
        const was = (text) => (old ? ` (${text()})` : '')
        const { of, came, came_from_elsewhere: elsewhere = of } = row.newcomers ?? {}
        return [
          `${name}: ${row.about}`,
          row.identities,
          `${added(row)}${was(() => added(old))}`,
          `${row.vote_p99_rest_ms.toFixed(1)}, ${row.vote_p99_attack_ms.toFixed(1)}${was(() => old.vote_p99_attack_ms.toFixed(0))}`,
          row.cpu_cores.toFixed(2),
          row.votes_lost + row.transactions_lost,
          [
            ...row.broken,
            ...(of && came === of && elsewhere === of ? [`(${of} newcomers got in)`] : []),
          ].join('; ') || 'nothing',
          row.attacker,
          row.commit,
        ]
      }),
      ['broken', 'the attacker', 'commit'],
    ),
  'sim-cost': (_, figures) =>
    table(
      ['', 'nodes', 'MiB', 'gossipsub', 'virtual s a CPU s', 'gossipsub', 'p50, p99', 'gossipsub'],
      virtual(figures, ['figures/load', 'figures/rest']).map(
        ([name, { nodes, selkie, gossipsub }]) => [
          scenario(name),
          nodes,
          ...[selkie, gossipsub].map((run) => shown(run, 'memory_mib', 0)),
          ...[selkie, gossipsub].map((run) => shown(run, 'speed', 2)),
          ...[selkie, gossipsub].map((run) => moments(run, 'transaction', 0, 2)),
        ],
      ),
    ),

  'sim-targets': (_, figures) =>
    table(
      ['', 'nodes', 'what', 'target', 'Selkie', '', 'gossipsub'],
      virtual(figures, ['figures/']).flatMap(([name, { nodes, selkie, gossipsub }]) =>
        selkie.verdicts
          .filter(({ what }) => !USUAL.test(what))
          .map(({ what, wanted, found, holds }) => [
            scenario(name),
            nodes,
            what,
            wanted,
            found,
            holds ? 'met' : 'missed',
            gossipsub.verdicts.find((other) => other.what === what)?.found ?? '',
          ]),
      ),
      ['what', 'target', 'Selkie', '', 'gossipsub'],
    ),

  'sim-beside': (_, figures) =>
    table(
      [
        'scenario',
        'transactions p50, p99',
        'blocks p50, the last',
        'links at most',
        'bytes a useful byte',
        'virtual s a CPU s',
        'broken',
        'commit',
      ],
      virtual(figures, ['transactions', 'blocks', 'world']).flatMap(
        ([name, { selkie, gossipsub, commit }]) =>
          [
            [`${scenario(name)}, Selkie`, selkie],
            ['gossipsub', gossipsub],
          ].map(([what, run]) => [
            what,
            moments(run, 'transaction', 0, 2),
            [moments(run, 'block', 0, 1), moments(run, 'block', 2, 3)].filter(Boolean).join(', '),
            Math.max(...Object.values(run.figures?.kinds ?? {}).map(({ hops }) => hops)),
            shown(run, 'bytes_per_useful_byte', 2),
            shown(run, 'speed', 2),
            run.broken.join(', '),
            commit,
          ]),
      ),
      ['broken', 'commit'],
    ),

  'sim-attacks': (_, figures) => {
    const cells = (run) => [
      inTime(run),
      moments(run, 'transaction', 0, 2),
      moments(run, 'block', 2, 3),
      shown(run, 'bytes_per_useful_byte', 2),
    ]
    const head = ['came in 8 s', 'transactions p50, p99', 'blocks, the last', 'bytes a useful byte']
    const [first, ...rest] = head
    return table(
      ['attack', `Selkie: ${first}`, ...rest, `gossipsub: ${first}`, ...rest, 'broken', 'commit'],
      virtual(figures, ['attacks/']).map(([name, { selkie, gossipsub, commit }]) => [
        scenario(name),
        ...cells(selkie),
        ...cells(gossipsub),
        selkie.broken.join(', ') || 'nothing',
        commit,
      ]),
      ['broken', 'commit'],
    )
  },
  ...Object.fromEntries(NAMED.map((name) => [`attack-${name}`, attack(name)])),
}
