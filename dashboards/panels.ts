import * as common from '@grafana/grafana-foundation-sdk/common';
import * as dashboard from '@grafana/grafana-foundation-sdk/dashboard';
import * as heatmap from '@grafana/grafana-foundation-sdk/heatmap';
import * as piechart from '@grafana/grafana-foundation-sdk/piechart';
import * as stat from '@grafana/grafana-foundation-sdk/stat';
import * as statetimeline from '@grafana/grafana-foundation-sdk/statetimeline';
import * as table from '@grafana/grafana-foundation-sdk/table';
import * as timeseries from '@grafana/grafana-foundation-sdk/timeseries';

import { ask, BOARD_DATASOURCE, type Ask } from './query';

/** What every panel of a board has, whatever its kind. */
export interface PanelSpec {
  /** Stable for the life of the board: alert rules and links point at it. */
  id: number;
  title: string;
  /** Shown behind the "i": what is drawn, and what to make of it. */
  description: string;
  /** Width in 24ths of the board. */
  w: number;
  /** Height in grid rows of 38 px. */
  h: number;
  queries: Ask | Ask[];
  /** What stands in the panel when there is nothing to draw, instead of "No data". */
  empty?: string;
  /** Where a click on a value leads. */
  links?: Link[];
}

/** A link from a value to another view; the address is one of Grafana's data link templates. */
export interface Link {
  title: string;
  url: string;
}

/** A value from which on a number is drawn in a colour. */
export interface Step {
  /** null: from the lowest value on. */
  from: number | null;
  colour: string;
}

type Panel = { build: () => dashboard.Panel };

/** What the builders of all panel kinds have in common. */
interface Common {
  id(id: number): this;
  title(title: string): this;
  description(description: string): this;
  datasource(ref: common.DataSourceRef): this;
  span(w: number): this;
  height(h: number): this;
  withTarget(query: ReturnType<typeof ask>): this;
  noValue(text: string): this;
  dataLinks(links: unknown[]): this;
}

/** Width in pixels of left axes with numbers, so that time lines up between panels above one another. */
const AXIS_WIDTH = 62;

/** How much of the colour zero has in lanes. */
const ZERO_TINT = 0.05;

function base<B extends Common>(builder: B, spec: PanelSpec): B {
  builder
    .id(spec.id)
    .title(spec.title)
    .description(spec.description)
    .datasource(BOARD_DATASOURCE)
    .span(spec.w)
    .height(spec.h);
  const queries = Array.isArray(spec.queries) ? spec.queries : [spec.queries];
  if (spec.empty !== undefined) {
    builder.noValue(spec.empty);
  }
  if (spec.links !== undefined) {
    builder.dataLinks(spec.links.map((link) => ({ build: () => ({ ...link, targetBlank: false }) })));
  }
  queries.forEach((query, i) => builder.withTarget(ask(query, String.fromCharCode('A'.charCodeAt(0) + i))));
  return builder;
}

export function thresholds(steps: Step[]): dashboard.ThresholdsConfigBuilder {
  return new dashboard.ThresholdsConfigBuilder()
    .mode(dashboard.ThresholdsMode.Absolute)
    .steps(steps.map(({ from, colour }) => ({ value: from, color: colour })));
}

const fixed = (colour: string): dashboard.DynamicConfigValue[] => [
  { id: 'color', value: { mode: dashboard.FieldColorModeId.Fixed, fixedColor: colour } },
];

/** The overrides that give each field of a colour table its colour, by the field's shown name. */
function colourByName(colours: Readonly<Record<string, string>>): Array<[string, dashboard.DynamicConfigValue[]]> {
  return Object.entries(colours).map(([name, colour]) => [name, fixed(colour)]);
}

const tooltip = (mode = common.TooltipDisplayMode.Multi): common.VizTooltipOptionsBuilder =>
  new common.VizTooltipOptionsBuilder().mode(mode).sort(common.SortOrder.Descending);

function legend(show: boolean, calcs: string[] = []): common.VizLegendOptionsBuilder {
  const builder = new common.VizLegendOptionsBuilder()
    .showLegend(show)
    .displayMode(calcs.length > 0 ? common.LegendDisplayMode.Table : common.LegendDisplayMode.List)
    .placement(calcs.length > 0 ? common.LegendPlacement.Right : common.LegendPlacement.Bottom);
  return calcs.length > 0 ? builder.calcs(calcs).sortBy('Max').sortDesc(true) : builder;
}

const reduce = (calc: string): common.ReduceDataOptionsBuilder => new common.ReduceDataOptionsBuilder().calcs([calc]);

/**
 * One lane per P over time, the colour's strength being the value: full from `max` on. Zero still has a tint, because
 * zero has been measured; what was not measured is not drawn.
 */
export function lanes(
  spec: PanelSpec & { unit: string; colour: string; max: number; decimals?: number }
): heatmap.PanelBuilder {
  return (
    base(new heatmap.PanelBuilder(), spec)
      .unit(spec.unit)
      .calculate(false)
      .color(
        new heatmap.HeatmapColorOptionsBuilder()
          .mode(heatmap.HeatmapColorMode.Opacity)
          .fill(spec.colour)
          .scale(heatmap.HeatmapColorScale.Exponential)
          // Low values are the ones that are easily overlooked: below 1, the exponent lifts them from the background.
          .exponent(0.7)
          .steps(64)
          .min(-ZERO_TINT * spec.max)
          .max(spec.max)
      )
      // Grafana hides cells up to 1e-9 unless told.
      .filterValues(new heatmap.FilterValueRangeBuilder().le(-spec.max))
      // Cells get as narrow as two pixels, of which a gap would take one.
      .cellGap(0)
      .cellRadius(0)
      .cellValues(withDecimals(new heatmap.CellValuesBuilder().unit(spec.unit), spec.decimals))
      .rowsFrame(new heatmap.RowsHeatmapOptionsBuilder().layout(common.HeatmapCellLayout.Auto).value(spec.title))
      .yAxis(new heatmap.YAxisConfigBuilder().axisPlacement(common.AxisPlacement.Left).reverse(true))
      // The scale would begin below zero; the tooltip has the number.
      .hideLegend()
      .showValue(common.VisibilityMode.Never)
      .tooltip(heatTooltip(false))
  );
}

/** One lane per row over time, coloured by a value of which zero means nothing in particular, such as a frequency. */
export function heat(spec: PanelSpec & { unit: string; scheme: string; decimals?: number }): heatmap.PanelBuilder {
  return base(new heatmap.PanelBuilder(), spec)
    .unit(spec.unit)
    .calculate(false)
    .color(
      new heatmap.HeatmapColorOptionsBuilder()
        .mode(heatmap.HeatmapColorMode.Scheme)
        .scheme(spec.scheme)
        .steps(64)
        .reverse(false)
    )
    .cellGap(0)
    .cellRadius(0)
    .cellValues(withDecimals(new heatmap.CellValuesBuilder().unit(spec.unit), spec.decimals))
    .rowsFrame(new heatmap.RowsHeatmapOptionsBuilder().layout(common.HeatmapCellLayout.Auto).value(spec.title))
    .yAxis(new heatmap.YAxisConfigBuilder().axisPlacement(common.AxisPlacement.Left).reverse(true))
    .showLegend()
    .showValue(common.VisibilityMode.Never)
    .tooltip(heatTooltip(true));
}

/** How often which value occurred, over time: the height is the value, the colour the count. */
export function distribution(
  spec: PanelSpec & { unit: string; scheme: string; countUnit?: string; log?: boolean; decimals?: number }
): heatmap.PanelBuilder {
  const axis = new heatmap.YAxisConfigBuilder()
    .axisPlacement(common.AxisPlacement.Left)
    .axisWidth(AXIS_WIDTH)
    .unit(spec.unit);
  return base(new heatmap.PanelBuilder(), spec)
    .unit(spec.unit)
    .calculate(false)
    .color(
      new heatmap.HeatmapColorOptionsBuilder()
        .mode(heatmap.HeatmapColorMode.Scheme)
        .scheme(spec.scheme)
        .scale(heatmap.HeatmapColorScale.Exponential)
        .exponent(0.5)
        .steps(64)
        .reverse(false)
    )
    .cellGap(1)
    .cellRadius(1)
    .cellValues(new heatmap.CellValuesBuilder().unit(spec.countUnit ?? 'short').decimals(spec.decimals ?? 0))
    .filterValues(new heatmap.FilterValueRangeBuilder().le(1e-9))
    .yAxis(axis)
    .showLegend()
    .showValue(common.VisibilityMode.Never)
    .tooltip(heatTooltip());
}

function withDecimals(builder: heatmap.CellValuesBuilder, decimals: number | undefined): heatmap.CellValuesBuilder {
  return decimals === undefined ? builder : builder.decimals(decimals);
}

const heatTooltip = (scale = true): heatmap.HeatmapTooltipBuilder =>
  new heatmap.HeatmapTooltipBuilder().mode(common.TooltipDisplayMode.Single).yHistogram(false).showColorScale(scale);

/** One bar per P over time, coloured by its state; the colours come with the frame's enum. */
export function timeline(spec: PanelSpec & { unit?: string }): statetimeline.PanelBuilder {
  return base(new statetimeline.PanelBuilder(), spec)
    .unit(spec.unit ?? 'string')
    .mergeValues(true)
    .showValue(common.VisibilityMode.Never)
    .rowHeight(0.86)
    .alignValue(common.TimelineValueAlignment.Left)
    .lineWidth(0)
    .fillOpacity(100)
    .disablePagination()
    .legend(legend(true))
    .tooltip(tooltip(common.TooltipDisplayMode.Single));
}

/** Lines over time. */
export function lines(
  spec: PanelSpec & {
    unit: string;
    min?: number;
    max?: number;
    softMax?: number;
    colours?: Readonly<Record<string, string>>;
    /** A dashed line at each value. */
    marks?: Step[];
    calcs?: string[];
    decimals?: number;
  }
): timeseries.PanelBuilder {
  const panel = base(new timeseries.PanelBuilder(), spec)
    .unit(spec.unit)
    .drawStyle(common.GraphDrawStyle.Line)
    .lineInterpolation(common.LineInterpolation.Linear)
    .lineWidth(1.5)
    .fillOpacity(8)
    .gradientMode(common.GraphGradientMode.Opacity)
    .showPoints(common.VisibilityMode.Never)
    .spanNulls(false)
    .axisWidth(AXIS_WIDTH)
    .legend(legend(true, spec.calcs))
    .tooltip(tooltip());
  applyRange(panel, spec);
  for (const [name, properties] of colourByName(spec.colours ?? {})) {
    panel.overrideByName(name, properties);
  }
  if (spec.marks) {
    panel
      .thresholds(thresholds([{ from: null, colour: 'transparent' }, ...spec.marks]))
      .thresholdsStyle(new common.GraphThresholdsStyleConfigBuilder().mode(common.GraphThresholdsStyleMode.Dashed));
  }
  return panel;
}

function applyRange(
  panel: timeseries.PanelBuilder,
  spec: { min?: number; max?: number; softMax?: number; decimals?: number }
): void {
  if (spec.min !== undefined) {
    panel.min(spec.min);
  }
  if (spec.max !== undefined) {
    panel.max(spec.max);
  }
  if (spec.softMax !== undefined) {
    panel.axisSoftMax(spec.softMax);
  }
  if (spec.decimals !== undefined) {
    panel.decimals(spec.decimals);
  }
}

/** On a logarithmic axis with a place for zero, ticks are marked down to minus this. */
const LINEAR_UP_TO = 1;

/**
 * Lines on an axis for values that differ by orders of magnitude, with a place for zero. Such an axis always has a tick
 * below zero, drawn even where the scale begins at zero: it gets no words.
 */
export function magnitudes(spec: Omit<Parameters<typeof lines>[0], 'min'>): timeseries.PanelBuilder {
  return lines({ ...spec, min: 0 })
    .scaleDistribution(
      new common.ScaleDistributionConfigBuilder()
        .type(common.ScaleDistribution.Symlog)
        .log(10)
        .linearThreshold(LINEAR_UP_TO)
    )
    .mappings([
      { type: dashboard.MappingType.RangeToText, options: { from: null, to: -LINEAR_UP_TO, result: { text: '' } } },
    ]);
}

/** Areas on top of one another, for shares that make a whole. */
export function stack(
  spec: PanelSpec & { unit: string; max?: number; colours: Readonly<Record<string, string>> }
): timeseries.PanelBuilder {
  return lines({ ...spec, min: 0 })
    .lineWidth(0)
    .fillOpacity(85)
    .gradientMode(common.GraphGradientMode.None)
    .stacking(new common.StackingConfigBuilder().mode(common.StackingMode.Normal).group('A'));
}

/** Height of the figures at the top of a board: room for the number above its course. */
const FIGURE_HEIGHT = 4;

/** One number with its recent course. */
export function figure(
  spec: Omit<PanelSpec, 'h'> & {
    unit: string;
    calc?: string;
    steps: Step[];
    decimals?: number;
    min?: number;
    max?: number;
    sparkline?: boolean;
  }
): stat.PanelBuilder {
  const panel = base(new stat.PanelBuilder(), { ...spec, h: FIGURE_HEIGHT })
    .unit(spec.unit)
    .reduceOptions(reduce(spec.calc ?? 'lastNotNull'))
    .thresholds(thresholds(spec.steps))
    .colorScheme(new dashboard.FieldColorBuilder().mode(dashboard.FieldColorModeId.Thresholds))
    .colorMode(common.BigValueColorMode.Value)
    .graphMode(spec.sparkline === false ? common.BigValueGraphMode.None : common.BigValueGraphMode.Area)
    .justifyMode(common.BigValueJustifyMode.Auto)
    .textMode(common.BigValueTextMode.Value)
    .noValue(spec.empty ?? '–');
  if (spec.decimals !== undefined) {
    panel.decimals(spec.decimals);
  }
  if (spec.min !== undefined) {
    panel.min(spec.min);
  }
  if (spec.max !== undefined) {
    panel.max(spec.max);
  }
  return panel;
}

/** Parts of a whole over the range shown. */
export function donut(
  spec: PanelSpec & { unit: string; colours?: Readonly<Record<string, string>> }
): piechart.PanelBuilder {
  const panel = base(new piechart.PanelBuilder(), spec)
    .unit(spec.unit)
    .decimals(1)
    .pieType(piechart.PieChartType.Donut)
    .reduceOptions(reduce('mean'))
    .displayLabels([])
    .legend(
      new piechart.PieChartLegendOptionsBuilder()
        .showLegend(true)
        .displayMode(common.LegendDisplayMode.Table)
        .placement(common.LegendPlacement.Right)
        .values([piechart.PieChartLegendValues.Percent])
    )
    .tooltip(tooltip(common.TooltipDisplayMode.Single));
  for (const [name, properties] of colourByName(spec.colours ?? {})) {
    panel.overrideByName(name, properties);
  }
  return panel;
}

/** How one column of a table looks. */
export interface Column {
  /** The field's name in the frame. */
  name: string;
  /** What the header says; the field's name if left out. */
  title?: string;
  width?: number;
  /** Grafana lets no column get narrower than 150 px unless told. */
  minWidth?: number;
  unit?: string;
  decimals?: number;
  hidden?: boolean;
  /** Colour of a small curve. */
  colour?: string;
  /** Colour of the bar that a number is drawn as. */
  bar?: string;
  /** Largest value of the bar. */
  max?: number;
  /** Background by the word in the cell. */
  words?: Readonly<Record<string, string>>;
  /** Wraps long text. */
  wrap?: boolean;
  /** The column whose text shows when the pointer rests on a cell. */
  hint?: string;
  /** Where a click on the cell leads. */
  link?: { title: string; url: string };
}

function columnProperties(column: Column): dashboard.DynamicConfigValue[] {
  const properties: dashboard.DynamicConfigValue[] = [];
  const set = (id: string, value: unknown): void => {
    properties.push({ id, value });
  };
  if (column.title !== undefined) {
    set('displayName', column.title);
  }
  if (column.width !== undefined) {
    set('custom.width', column.width);
  }
  if (column.minWidth !== undefined) {
    set('custom.minWidth', column.minWidth);
  }
  if (column.unit !== undefined) {
    set('unit', column.unit);
  }
  if (column.decimals !== undefined) {
    set('decimals', column.decimals);
  }
  if (column.hidden) {
    set('custom.hidden', true);
  }
  if (column.colour !== undefined) {
    set('color', { mode: dashboard.FieldColorModeId.Fixed, fixedColor: column.colour });
    // Left to itself the table looks at the first row: where that has no course, it writes all others out as "[object
    // Object]".
    set('custom.cellOptions', { type: common.TableCellDisplayMode.Sparkline });
    set('noValue', '–');
  }
  if (column.bar !== undefined) {
    set('min', 0);
    if (column.max !== undefined) {
      set('max', column.max);
    }
    set('color', { mode: dashboard.FieldColorModeId.Fixed, fixedColor: column.bar });
    set('custom.cellOptions', {
      type: common.TableCellDisplayMode.Gauge,
      mode: common.BarGaugeDisplayMode.Basic,
      valueDisplayMode: common.BarGaugeValueMode.Text,
    });
  }
  if (column.words !== undefined) {
    const options = Object.fromEntries(
      Object.entries(column.words).map(([word, color], index) => [word, { color, index }])
    );
    set('mappings', [{ type: dashboard.MappingType.ValueToText, options }]);
    set('custom.cellOptions', {
      type: common.TableCellDisplayMode.ColorBackground,
      mode: common.TableCellBackgroundDisplayMode.Basic,
    });
  }
  if (column.wrap) {
    set('custom.cellOptions', { type: common.TableCellDisplayMode.Auto, wrapText: true });
  }
  if (column.hint !== undefined) {
    set('custom.tooltip', { field: column.hint, placement: 'left' });
  }
  if (column.link) {
    set('links', [{ ...column.link, targetBlank: false }]);
  }
  return properties;
}

/** Rows and columns. */
export function rows(spec: PanelSpec & { columns: Column[]; sortBy?: string }): table.PanelBuilder {
  const panel = base(new table.PanelBuilder(), spec)
    .showHeader(true)
    // A bar is as long as its share of the largest in its own column; else a PID would dwarf all seconds.
    .fieldMinMax(true)
    .cellHeight(common.TableCellHeight.Sm)
    .filterable(false);
  if (spec.sortBy !== undefined) {
    panel.sortBy([new common.TableSortByFieldStateBuilder().displayName(spec.sortBy).desc(true)]);
  }
  for (const column of spec.columns) {
    panel.overrideByName(column.name, columnProperties(column));
  }
  return panel;
}

export type { Panel };
