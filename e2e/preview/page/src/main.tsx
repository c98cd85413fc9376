import { initPluginTranslations } from '@grafana/i18n';
import { setBackendSrv, setDataSourceSrv, setGrafanaLiveSrv, setTemplateSrv } from '@grafana/runtime';
import { createRoot } from 'react-dom/client';

import { PreviewBackendSrv } from './host/backendSrv';
import { fetchBoot } from './host/boot';
import { PreviewDataSourceSrv } from './host/dataSources';
import { PreviewLiveSrv } from './host/liveSrv';
import { loadPlugin } from './host/plugin';
import { errorText } from './host/query';
import { PreviewTemplateSrv } from './host/templateSrv';
import { registerTransformations } from './panels/prepare';
import { App } from './views/App';
import { HostContext } from './views/settings';

/** Brings up what a plugin finds around it in Grafana, loads the plugin, and shows it. */
async function start(root: HTMLElement): Promise<void> {
  await initPluginTranslations('grafana');
  registerTransformations();
  const templates = new PreviewTemplateSrv();
  setTemplateSrv(templates);
  setBackendSrv(new PreviewBackendSrv());
  setGrafanaLiveSrv(new PreviewLiveSrv());
  const boot = await fetchBoot();
  const plugin = await loadPlugin(boot.plugin.id);
  plugin.meta = boot.plugin;
  const sources = new PreviewDataSourceSrv(boot, plugin);
  setDataSourceSrv(sources);
  root.removeAttribute('role');
  createRoot(root).render(
    <HostContext.Provider value={{ boot, plugin, sources, templates }}>
      <App />
    </HostContext.Provider>
  );
}

const root = document.getElementById('root');
if (root) {
  start(root).catch((error: unknown) => {
    root.setAttribute('role', 'alert');
    root.textContent = `The preview could not start: ${errorText(error)}`;
    console.error(error);
  });
}
