import type { DataSourceSettings } from '@grafana/data';
import { getBackendSrv } from '@grafana/runtime';
import { Alert, Button, Stack } from '@grafana/ui';
import { useState } from 'react';

import type { BootSource } from '../host/boot';
import { errorText } from '../host/query';
import { Fault } from '../panels/Fault';
import { useHost } from './settings';

type Outcome = { severity: 'success' | 'error' | 'info'; title: string; details?: string };

/** The data source's settings: edited, saved (in memory) and tested as Grafana's page does. */
export function Config({ uid }: { uid: string }) {
  const { plugin, sources, boot } = useHost();
  const found = sources.source(sources.getInstanceSettings(uid)?.uid ?? '');
  const [options, setOptions] = useState<DataSourceSettings | undefined>(() => found && editable(found));
  const [outcome, setOutcome] = useState<Outcome>();
  const [busy, setBusy] = useState(false);

  const Editor = plugin.components.ConfigEditor;
  if (!options || !Editor) {
    return <Fault text={Editor ? 'No data source is provisioned.' : 'The plugin has no settings page.'} error />;
  }

  const saveAndTest = async (): Promise<void> => {
    setBusy(true);
    setOutcome({ severity: 'info', title: 'Testing …' });
    try {
      const { name, jsonData, secureJsonData } = options;
      const saved = await getBackendSrv().put<BootSource>(`/api/datasources/uid/${options.uid}`, { name, jsonData, secureJsonData });
      sources.replace(saved);
      setOptions(editable(saved));
      const source = await sources.get(saved.uid);
      const result = (await source.testDatasource()) as { status?: string; message?: string } | undefined;
      setOutcome({ severity: result?.status === 'error' ? 'error' : 'success', title: result?.message ?? 'The test passed.' });
    } catch (error) {
      const details = (error as { error?: { details?: unknown } }).error?.details;
      setOutcome({ severity: 'error', title: errorText(error), ...(details ? { details: JSON.stringify(details, null, 2) } : {}) });
    } finally {
      setBusy(false);
    }
  };

  return (
    <Stack direction="column" gap={2}>
      <h2>
        {options.name} <small>{boot.plugin.name} {boot.plugin.info.version}</small>
      </h2>
      <Editor options={options} onOptionsChange={setOptions} />
      <div>
        <Button onClick={() => void saveAndTest()} disabled={busy} data-testid="preview-save">
          Save &amp; test
        </Button>
      </div>
      {outcome && (
        <div data-testid="preview-health" data-severity={outcome.severity} aria-live="polite">
          <Alert severity={outcome.severity} title={outcome.title}>
            {outcome.details && <pre>{outcome.details}</pre>}
          </Alert>
        </div>
      )}
    </Stack>
  );
}

function editable({ id, uid, name, type, url, isDefault, jsonData, secureJsonFields }: BootSource): DataSourceSettings {
  return {
    id,
    uid,
    name,
    type,
    typeName: type,
    typeLogoUrl: '',
    url,
    isDefault,
    jsonData,
    secureJsonFields,
    secureJsonData: {},
    orgId: 1,
    access: 'proxy',
    user: '',
    database: '',
    basicAuth: false,
    basicAuthUser: '',
    readOnly: false,
    withCredentials: false,
  };
}
