import { Document } from 'yaml';

import { runbookURL } from './alerting';
import { RULES, type Rule } from './rules';

const HEADER = ` Alert rules of P-Scope for Prometheus, Mimir, Thanos or VictoriaMetrics that scrape the agents.
 Made by "npm run gen:dashboards" from dashboards/rules.ts; tested by "promtool test rules deploy/prometheus/rules/pscope_test.yaml".
 pscope-stop-long needs native histograms: scrape with "scrape_native_histograms: true" (Prometheus 3) or
 "--enable-feature=native-histograms" (Prometheus 2).`;

const COMPARISON = { gt: '>', lt: '<' } as const;

/** Prometheus' template for each `{{name}}` of a sentence. */
function template(sentence: string, format: Rule['format']): string {
  return sentence.replace(/{{(\w+)}}/g, (_, name: string) => {
    if (name !== 'value') {
      return `{{ $labels.${name === 'pid' ? 'process_pid' : name} }}`;
    }
    switch (format) {
      case 'percentage':
        return '{{ $value | humanizePercentage }}';
      case 'duration':
        return '{{ $value | humanizeDuration }}';
      default:
        return '{{ $value | printf "%.1f" }}';
    }
  });
}

/** One rule in the form of Prometheus' rule files. */
export function prometheusRule(rule: Rule): Record<string, unknown> {
  return {
    alert: rule.alert,
    expr: rule.promql.absent ?? `${rule.promql.expr} ${COMPARISON[rule.when]} ${rule.threshold}`,
    for: rule.for,
    labels: { severity: rule.severity, source: 'p-scope' },
    annotations: {
      summary: template(rule.summary, rule.format),
      description: rule.description,
      runbook_url: runbookURL(rule),
    },
  };
}

/** The text of deploy/prometheus/rules/pscope.yaml. */
export function prometheusRules(): string {
  const document = new Document({ groups: [{ name: 'p-scope', rules: RULES.map(prometheusRule) }] });
  document.commentBefore = HEADER;
  return document.toString({ lineWidth: 0 });
}
