import { FieldType, type DataFrame, type Field, type Labels } from '@grafana/data';

import type { PNow, TransitionBatch } from '../../gen/pscope/v1/scope_pb';
import type { CompleteQuery } from '../../query/defaults';
import { P_STATES } from '../../query/model';
import type { Matcher } from '../selector';
import type { Update } from '../hub';
import { micros, millis } from '../time';
import { append, dropBefore, join, noIntervals, reduce, type Intervals } from './lanes';
import { targetLabels } from './measure';
import { compareLabels, rowNames } from './names';
import { statePalette, threadPalette, type Palette } from './style';

/** How the window of a live panel is laid out. */
export interface Window {
  windowMs: number;
  /** At most this many points, or intervals of a lane. */
  maxPoints: number;
}

/** A live frame is drawn many times a second: it holds this part of what history may. */
const LIVE_PART = 4;
/** A lane keeps this many times what is shown before it is thinned out. */
const SLACK = 4;
/** The labels by which Go runtimes are told apart. */
const IDENTITY = ['host', 'process', 'process_pid', 'runtime'];
const NS_PER_US = 1000;
const US_PER_MS = 1000;

interface Lane {
  labels: Labels;
  /** From the backend; counts up to the first live interval. */
  history: Intervals;
  live: Intervals;
  /** The state that lasts, not yet in `live`, and when it was last told. */
  open?: { since: number; told: number; code: number };
}

/** One frame for each P with exact intervals, from history and the transitions of a stream. */
export class LiveTimeline {
  private readonly lanes = new Map<string, Lane>();
  private readonly palette: Palette;
  /** The values shown: those of the states chosen, and uninterruptible sleep always. */
  private readonly shown: ReadonlySet<number>;

  constructor(
    private readonly query: CompleteQuery,
    private readonly matcher: Matcher,
    private readonly window: Window
  ) {
    const isThread = query.metric === 'thread';
    this.palette = isThread ? threadPalette() : statePalette();
    const { text } = this.palette;
    const chosen: readonly string[] = isThread ? query.threadStates : query.states;
    this.shown = new Set(
      text
        .map((_, shade) => shade)
        .filter(
          (shade) =>
            chosen.length === 0 || chosen.includes(text[shade] ?? '') || (!isThread && shade >= P_STATES.length)
        )
    );
  }

  /** Takes over the backend's frames of exact intervals. More can follow, for later times. */
  seed(frames: readonly DataFrame[]) {
    for (const frame of frames) {
      const [time, timeEnd] = frame.fields.filter((field) => field.type === FieldType.time);
      const value = frame.fields.find((field) => field.type === FieldType.enum);
      if (!time || !timeEnd || !value?.labels) {
        continue;
      }
      const lane = this.lane(value.labels);
      const words = value.config.type?.enum?.text ?? [];
      for (let i = 0; i < frame.length; i++) {
        const code = this.palette.text.indexOf(words[value.values[i]] ?? '');
        if (code >= 0) {
          append(lane.history, time.values[i], timeEnd.values[i], code);
        }
      }
    }
  }

  /** Adds what a message of an instant says. */
  apply(atUnixNano: bigint, updates: readonly Update[]) {
    const at = millis(atUnixNano);
    for (const { target, news } of updates) {
      if (!this.matcher.target(target)) {
        continue;
      }
      const labels = targetLabels(target);
      for (const batch of news.transitions) {
        if (this.matcher.p(batch.p)) {
          this.addBatch(this.lane({ ...labels, p: String(batch.p) }), batch);
        }
      }
      for (const now of news.ps) {
        if (this.matcher.p(now.p)) {
          this.addPresent(this.lane({ ...labels, p: String(now.p) }), now, at);
        }
      }
      if (news.ended) {
        this.end(labels);
      }
    }
  }

  /**
   * Closes the lanes of a process that is no more: nothing lasts beyond its end. The last message about it holds no
   * present states.
   */
  private end(target: Labels) {
    for (const lane of this.lanes.values()) {
      const { open, labels, live } = lane;
      if (!open || IDENTITY.some((label) => labels[label] !== target[label])) {
        continue;
      }
      lane.open = undefined;
      if ((live.end[live.end.length - 1] ?? -Infinity) <= open.since) {
        append(live, open.since, open.told, open.code);
      }
    }
  }

  private addBatch(lane: Lane, batch: TransitionBatch) {
    let at = micros(batch.baseUnixNano);
    batch.code.forEach((packed, i) => {
      const start = at + Number(batch.gapNanos[i] ?? 0) / NS_PER_US;
      at = start + Number(batch.durationNanos[i] ?? 0) / NS_PER_US;
      this.append(lane, start / US_PER_MS, at / US_PER_MS, this.palette.shade((packed >> 4) & 15, (packed >> 8) & 15));
    });
  }

  private addPresent(lane: Lane, now: PNow, told: number) {
    const code = this.palette.shade(now.state, now.threadState);
    lane.open = code === undefined ? undefined : { since: millis(now.sinceUnixNano), told, code };
  }

  private append(lane: Lane, start: number, end: number, code: number | undefined) {
    if (code !== undefined) {
      append(lane.live, start, end, code);
      if (lane.live.start.length > SLACK * this.window.maxPoints) {
        lane.live = reduce(lane.live, this.window.maxPoints * 2, this.palette.rare);
      }
    }
  }

  /** The frames up to an instant, Unix milliseconds: states that last are drawn up to it. */
  frames(nowMs: number): DataFrame[] {
    const from = nowMs - this.window.windowMs;
    for (const [key, lane] of this.lanes) {
      dropBefore(lane.history, from);
      dropBefore(lane.live, from);
      if (lane.history.start.length === 0 && lane.live.start.length === 0 && !lane.open) {
        this.lanes.delete(key);
      }
    }
    const lanes = [...this.lanes.values()].sort((a, b) => compareLabels(a.labels, b.labels));
    const names = rowNames(
      lanes.map((lane) => lane.labels),
      'P'
    );
    return lanes.map((lane, i) => this.frame(lane, names[i] ?? '', nowMs));
  }

  private frame(lane: Lane, name: string, nowMs: number): DataFrame {
    const whole = join(lane.history, lane.live);
    if (lane.open) {
      append(whole, lane.open.since, nowMs, lane.open.code);
    }
    const all = reduce(whole, Math.ceil(this.window.maxPoints / LIVE_PART), this.palette.rare);
    const keep = all.code.map((code) => this.shown.has(code));
    const pick = (values: number[]) => values.filter((_, i) => keep[i]);
    const fields: Field[] = [
      { name: 'time', type: FieldType.time, config: {}, values: pick(all.start) },
      { name: 'timeEnd', type: FieldType.time, config: {}, values: pick(all.end) },
      {
        name: 'state',
        type: FieldType.enum,
        labels: lane.labels,
        config: { displayNameFromDS: name, type: { enum: { text: this.palette.text, color: this.palette.color } } },
        values: pick(all.code),
      },
    ];
    return {
      refId: this.query.refId,
      name: '',
      meta: { preferredVisualisationPluginId: 'state-timeline' },
      fields,
      length: fields[0]?.values.length ?? 0,
    };
  }

  private lane(labels: Labels): Lane {
    const key = [labels.host, labels.process, labels.process_pid, labels.runtime, labels.p].join('\n');
    const found = this.lanes.get(key);
    if (found) {
      return found;
    }
    const lane: Lane = { labels, history: noIntervals(), live: noIntervals() };
    this.lanes.set(key, lane);
    return lane;
  }
}
