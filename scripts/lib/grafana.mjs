// Where P-Scope is looked at: a Grafana on this machine, one in Docker, or the preview.
import fs from 'node:fs';
import path from 'node:path';

import { built } from './build.mjs';
import { Service, answers } from './services.mjs';
import { output, root, which } from './shell.mjs';

const pluginId = 'pscope-pscope-datasource';
const image = 'grafana/grafana:12.4.0';

/** @returns {{kind: 'grafana', bin: string} | {kind: 'docker'} | {kind: 'preview'}} */
export function chooseViewer(forcePreview) {
  if (forcePreview) {
    return { kind: 'preview' };
  }
  const bin = process.env.GRAFANA_BIN || which('grafana');
  if (bin && fs.existsSync(bin)) {
    return { kind: 'grafana', bin };
  }
  // The client alone is not enough: an engine must answer.
  if (which('docker') && output('docker', ['version', '--format', '{{.Server.Version}}'], { timeout: 5000 })) {
    return { kind: 'docker' };
  }
  return { kind: 'preview' };
}

/** Settings for looking and trying on loopback: no login, no calls home, this unsigned plugin allowed. */
const settings = {
  GF_AUTH_ANONYMOUS_ENABLED: 'true',
  GF_AUTH_ANONYMOUS_ORG_ROLE: 'Admin',
  GF_AUTH_DISABLE_LOGIN_FORM: 'true',
  GF_PLUGINS_ALLOW_LOADING_UNSIGNED_PLUGINS: pluginId,
  GF_PLUGINS_PREINSTALL_DISABLED: 'true',
  GF_ANALYTICS_ENABLED: 'false',
  GF_ANALYTICS_REPORTING_ENABLED: 'false',
  GF_ANALYTICS_CHECK_FOR_UPDATES: 'false',
  GF_ANALYTICS_CHECK_FOR_PLUGIN_UPDATES: 'false',
  GF_NEWS_NEWS_FEED_ENABLED: 'false',
  GF_UNIFIED_ALERTING_MIN_INTERVAL: '10s',
};

/** Copies provisioning/ with the data source pointed at this run's socket. */
export function provision(to, socket) {
  fs.rmSync(to, { recursive: true, force: true });
  fs.cpSync(path.join(root, 'provisioning'), to, { recursive: true });
  const dir = path.join(to, 'datasources');
  for (const name of fs.readdirSync(dir).filter((n) => /\.ya?ml$/.test(n))) {
    const file = path.join(dir, name);
    const text = fs.readFileSync(file, 'utf8');
    fs.writeFileSync(file, text.replace(/^( *)mode: local$/gm, `$&\n$1socketPath: ${JSON.stringify(socket)}`));
  }
}

/** A plugin directory that holds this build and nothing else. */
function pluginDir(to) {
  fs.rmSync(to, { recursive: true, force: true });
  fs.mkdirSync(to, { recursive: true });
  fs.symlinkSync(path.join(root, 'dist'), path.join(to, pluginId));
}

/**
 * Starts the viewer. Its state is kept in stateDir, so that the next start is faster.
 *
 * @returns {Promise<{service: Service, url: string}>}
 */
export async function startViewer(viewer, { port, socket, stateDir, logDir, services }) {
  const base = `http://127.0.0.1:${port}`;
  const board = `${base}/d/pscope-process`;
  if (viewer.kind === 'preview') {
    const args = ['--port', String(port), '--agent-socket', socket];
    const service = new Service('preview', path.join(root, built.previewServer), args, { logDir });
    services.push(service);
    await service.until(() => answers(`${base}/`), 20);
    return { service, url: base };
  }
  const state = path.join(stateDir, viewer.kind);
  fs.mkdirSync(state, { recursive: true });
  let service;
  if (viewer.kind === 'grafana') {
    provision(path.join(state, 'provisioning'), socket);
    pluginDir(path.join(state, 'plugins'));
    const real = fs.realpathSync(viewer.bin);
    const home = [process.env.GF_PATHS_HOME, path.resolve(real, '..', '..'), '/usr/share/grafana'].find(
      (dir) => dir && fs.existsSync(path.join(dir, 'conf', 'defaults.ini'))
    );
    service = new Service('grafana', viewer.bin, ['server', ...(home ? ['--homepath', home] : [])], {
      logDir,
      env: {
        ...process.env,
        ...settings,
        GF_PATHS_DATA: path.join(state, 'data'),
        GF_PATHS_LOGS: path.join(state, 'log'),
        GF_PATHS_PLUGINS: path.join(state, 'plugins'),
        GF_PATHS_PROVISIONING: path.join(state, 'provisioning'),
        GF_PLUGIN_PSCOPE_PSCOPE_DATASOURCE_ALLOWED_SOCKETS: socket,
        GF_SERVER_HTTP_ADDR: '127.0.0.1',
        GF_SERVER_HTTP_PORT: String(port),
        GF_LOG_MODE: 'console',
      },
    });
  } else {
    // Inside, the agent's socket is where the data source looks for it by default. The same user may open it.
    const env = Object.entries({ ...settings, GF_PATHS_PROVISIONING: '/etc/grafana/provisioning' }).flatMap(
      ([k, v]) => ['-e', `${k}=${v}`]
    );
    const args = [
      ...['run', '--rm', '--init', '--name', `pscope-grafana-${process.pid}`, '-p', `127.0.0.1:${port}:3000`],
      ...['--user', `${process.getuid()}:${process.getgid()}`, '--tmpfs', '/var/lib/grafana:mode=1777', ...env],
      ...['-v', `${path.join(root, 'dist')}:/var/lib/grafana/plugins/${pluginId}:ro`],
      ...['-v', `${path.join(root, 'provisioning')}:/etc/grafana/provisioning:ro`],
      ...['-v', `${path.dirname(socket)}:/run/pscope`, image],
    ];
    service = new Service('grafana', 'docker', args, { logDir });
  }
  services.push(service);
  await service.until(() => answers(`${base}/api/health`), viewer.kind === 'docker' ? 300 : 120);
  return { service, url: board };
}
