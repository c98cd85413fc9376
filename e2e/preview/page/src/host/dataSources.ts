import type { DataSourceInstanceSettings, DataSourceJsonData, DataSourceRef } from '@grafana/data';
import type { DataSourceSrv } from '@grafana/runtime';

import type { Boot, BootSource } from './boot';
import type { AnyDataSource, AnyPlugin } from './plugin';

/** The provisioned data sources, each with one instance of the plugin's class. */
export class PreviewDataSourceSrv implements DataSourceSrv {
  private readonly instances = new Map<string, AnyDataSource>();
  private sources: BootSource[];

  constructor(
    private readonly boot: Boot,
    private readonly plugin: AnyPlugin
  ) {
    this.sources = boot.datasources;
  }

  get(ref?: DataSourceRef | string | null): Promise<AnyDataSource> {
    const settings = this.getInstanceSettings(ref);
    if (!settings) {
      return Promise.reject(new Error(`There is no data source ${JSON.stringify(ref)} in the provisioning.`));
    }
    return Promise.resolve(this.instance(settings));
  }

  /** The instance of a data source by its settings; made at first use, as in Grafana. */
  instance(settings: DataSourceInstanceSettings): AnyDataSource {
    let instance = this.instances.get(settings.uid);
    if (!instance) {
      instance = new this.plugin.DataSourceClass(settings);
      instance.components = this.plugin.components;
      instance.meta = settings.meta;
      this.instances.set(settings.uid, instance);
    }
    return instance;
  }

  getList(): DataSourceInstanceSettings[] {
    return this.sources.map((source) => this.settings(source));
  }

  getInstanceSettings(ref?: DataSourceRef | string | null): DataSourceInstanceSettings | undefined {
    const wanted = typeof ref === 'string' ? ref : ref?.uid;
    // A reference by a board's ${datasource} variable, or none: the default one.
    const source =
      !wanted || wanted.startsWith('$')
        ? (this.sources.find((s) => s.isDefault) ?? this.sources[0])
        : this.sources.find((s) => s.uid === wanted || s.name === wanted);
    return source && this.settings(source);
  }

  /** After a change of settings: the next use gets a new instance. */
  replace(source: BootSource): void {
    this.sources = this.sources.map((old) => (old.uid === source.uid ? source : old));
    this.instances.delete(source.uid);
  }

  source(uid: string): BootSource | undefined {
    return this.sources.find((s) => s.uid === uid);
  }

  reload(): Promise<void> {
    return Promise.resolve();
  }

  registerRuntimeDataSource(): void {
    throw new Error('The preview has no runtime data sources.');
  }

  private settings(source: BootSource): DataSourceInstanceSettings<DataSourceJsonData> {
    return {
      id: source.id,
      uid: source.uid,
      name: source.name,
      type: source.type,
      url: `/api/datasources/proxy/uid/${source.uid}`,
      access: 'proxy',
      isDefault: source.isDefault,
      readOnly: false,
      jsonData: source.jsonData,
      meta: this.boot.plugin,
    };
  }
}
