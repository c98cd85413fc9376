import { Document, isMap, isScalar, isSeq, type Node } from 'yaml';

import { PROVISIONED_UID } from './query';
import { DOCS_URL, RULES, type Rule } from './rules';

/** How often the rules are looked at: the shortest that Grafana allows. */
export const GROUP_INTERVAL = '10s';

/** The folder in which the rules stand. */
const FOLDER = 'P-Scope';

/** Data source type under which Grafana's own expressions run. */
const EXPRESSIONS = { type: '__expr__', uid: '__expr__' };

const HEADER = ` Alert rules of P-Scope for Grafana's own alerting. Copy into provisioning/alerting, or mount the folder.
 Made by "npm run gen:dashboards" from dashboards/rules.ts; the rules for Prometheus are in deploy/prometheus/rules.`;

/**
 * Grafana's template for each `{{name}}` of a sentence. `.Labels` rather than `$labels`: in provisioning files a dollar
 * sign begins an environment variable, and which fields of a rule are searched for these differs between versions of
 * Grafana.
 */
function template(sentence: string, format: Rule['format']): string {
  return sentence.replace(/{{(\w+)}}/g, (_, name: string) => {
    if (name !== 'value') {
      return `{{ .Labels.${name === 'pid' ? 'process_pid' : name} }}`;
    }
    // An alert about missing data has no value B, and a template that asks for one fails as a whole.
    return `{{ with .Values.B }}{{ .Value | ${FORMATTERS[format]} }}{{ else }}?{{ end }}`;
  });
}

const FORMATTERS: Record<Rule['format'], string> = {
  percentage: 'humanizePercentage',
  duration: 'humanizeDuration',
  number: 'printf "%.1f"',
};

/** The link from an alert to its explanation. */
export const runbookURL = (rule: Rule): string => `${DOCS_URL}/runbooks/${rule.uid}.md`;

/** One rule in the form of Grafana's provisioning files. */
export function grafanaRule(rule: Rule): Record<string, unknown> {
  const range = { from: rule.window, to: 0 };
  return {
    uid: rule.uid,
    title: rule.title,
    condition: 'C',
    for: rule.for,
    noDataState: rule.noData,
    execErrState: rule.onError,
    annotations: {
      summary: template(rule.summary, rule.format),
      description: rule.description,
      runbook_url: runbookURL(rule),
      __dashboardUid__: rule.panel.board,
      __panelId__: String(rule.panel.id),
    },
    labels: { severity: rule.severity, source: 'p-scope' },
    data: [
      {
        refId: 'A',
        datasourceUid: PROVISIONED_UID,
        relativeTimeRange: range,
        model: { refId: 'A', version: 1, ...rule.query, intervalMs: 1000, maxDataPoints: 1000 },
      },
      {
        refId: 'B',
        datasourceUid: EXPRESSIONS.uid,
        relativeTimeRange: range,
        model: {
          refId: 'B',
          datasource: EXPRESSIONS,
          type: 'reduce',
          expression: 'A',
          reducer: rule.reducer,
          // A point that is missing says nothing; it must not turn the number into NaN.
          settings: { mode: 'dropNN' },
        },
      },
      {
        refId: 'C',
        datasourceUid: EXPRESSIONS.uid,
        relativeTimeRange: range,
        model: {
          refId: 'C',
          datasource: EXPRESSIONS,
          type: 'threshold',
          expression: 'B',
          conditions: [{ evaluator: { type: rule.when, params: [rule.threshold] } }],
        },
      },
    ],
  };
}

function commentRules(node: Node | null | undefined): void {
  if (!isSeq(node)) {
    return;
  }
  node.items.forEach((item, i) => {
    const rule = RULES[i];
    if (!isMap(item) || rule === undefined) {
      return;
    }
    for (const pair of item.items) {
      if (!isScalar(pair.key) || !isScalar(pair.value)) {
        continue;
      }
      if (pair.key.value === 'noDataState') {
        pair.value.comment = ` ${rule.noDataWhy}`;
      }
      if (pair.key.value === 'execErrState') {
        pair.value.comment = ` ${rule.onErrorWhy}`;
      }
    }
  });
}

/** The text of provisioning/alerting/pscope-rules.yaml. */
export function alertingFile(): string {
  const document = new Document({
    apiVersion: 1,
    groups: [
      {
        orgId: 1,
        name: 'p-scope',
        folder: FOLDER,
        interval: GROUP_INTERVAL,
        rules: RULES.map(grafanaRule),
      },
    ],
  });
  document.commentBefore = HEADER;
  commentRules(document.getIn(['groups', 0, 'rules']) as Node);
  return document.toString({ lineWidth: 0 });
}
