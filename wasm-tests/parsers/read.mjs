// Reads bodies that the gateway let in, with Node's parsers; as read.py.
import { createInterface } from 'node:readline';

const ANSWERS = [
  'n',
  'best_of',
  'n_cmpl',
  'num_return_sequences',
  'num_beams',
  'beam_size',
  'beam_width',
  'beam_search_width',
  'num_generations',
  'candidate_count',
  'num_outputs_per_prompt',
  'num_images_per_prompt',
  'num_images',
  'num_outputs',
];
const members = ['model', 'stream', 'answers', 'max_tokens', 'max_completion_tokens', 'max_output_tokens'];

// A member as a server makes use of it.
function member(name, reading, form) {
  if (name === 'answers') return Math.max(1, ...ANSWERS.map((count) => Number(reading[count] ?? 1)));
  if (form && name === 'stream') return ['true', 'True', '1'].includes(reading[name]);
  return form && name.startsWith('max') && reading[name] !== undefined ? Number(reading[name]) : reading[name];
}

const formReaders = {
  async undici(type, body) {
    const form = await new Response(body, { headers: { 'content-type': type } }).formData();
    return [...form.entries()].filter(([, value]) => typeof value === 'string');
  },
};
const jsonReaders = {
  parse: (_, body) => JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(body)),
  'parse, replacing': (_, body) => JSON.parse(body.toString('utf8')),
  assign: (_, body) => Object.assign({}, JSON.parse(body.toString('utf8'))),
  response: (type, body) => new Response(body, { headers: { 'content-type': type } }).json(),
};

function same(name, ours, theirs) {
  ours ??= null;
  theirs ??= null;
  if (ours === null || theirs === null) return ours === theirs || (name === 'stream' && !ours && !theirs);
  return ours === theirs;
}

const counts = {};
let differences = 0;
let number = 0;
for await (const line of createInterface({ input: process.stdin })) {
  const { kind, type, body: encoded, read: ours } = JSON.parse(line);
  const body = Buffer.from(encoded, 'base64');
  for (const [name, read] of Object.entries(kind === 'json' ? jsonReaders : formReaders)) {
    let theirs;
    try {
      theirs = await read(type, body);
    } catch {
      continue;
    }
    counts[name] = (counts[name] ?? 0) + 1;
    const readings = kind === 'json' ? [theirs] : [Object.fromEntries(theirs), Object.fromEntries(theirs.reverse())];
    for (const reading of readings) {
      const wrong = members.filter((name) => !same(name, ours[name], member(name, reading, kind === 'form')));
      if (wrong.length > 0) {
        differences += 1;
        const shown = wrong.map((name) => `${name}: ours ${ours[name]}, theirs ${member(name, reading, kind === 'form')}`);
        console.log(`body ${number}: ${name} reads ${shown} of ${type} ${JSON.stringify(body.toString('latin1'))}`);
      }
    }
  }
  number += 1;
}
console.log(JSON.stringify(counts));
process.exitCode = differences > 0 ? 1 : 0;
