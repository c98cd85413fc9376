import type { DataSourcePluginOptionsEditorProps } from '@grafana/data';
import {
  Alert,
  ClipboardButton,
  Field,
  FieldSet,
  Input,
  RadioButtonGroup,
  SecretInput,
  SecretTextArea,
  Stack,
  Switch,
  Text,
  TextArea,
} from '@grafana/ui';
import React, { useId, useState } from 'react';

import { CONFIG, MODE_WORDS } from '../labels';
import { selectors } from '../selectors';
import type { Mode, ScopeOptions, ScopeSecureOptions } from '../types';

type Props = DataSourcePluginOptionsEditorProps<ScopeOptions, ScopeSecureOptions>;

const MODES: Mode[] = ['local', 'agents', 'engine'];
const WIDTH = 60;

/** The settings of a data source. Secrets are written, never read back. */
export function ConfigEditor({ options, onOptionsChange }: Props) {
  const id = useId();
  const { jsonData } = options;
  const mode = jsonData.mode ?? 'local';
  const readOnly = options.readOnly ?? false;
  const set = (news: Partial<ScopeOptions>) => onOptionsChange({ ...options, jsonData: { ...jsonData, ...news } });

  return (
    <div data-testid={selectors.configEditor}>
      {readOnly && <Alert severity="info" title={CONFIG.readOnly} />}
      <FieldSet label={CONFIG.source}>
        <Field label={CONFIG.mode} description={MODE_WORDS[mode].description}>
          <RadioButtonGroup
            id={`${id}-mode`}
            aria-label={CONFIG.mode}
            disabled={readOnly}
            options={MODES.map((value) => ({ value, ...MODE_WORDS[value] }))}
            value={mode}
            onChange={(value) => set({ mode: value })}
          />
        </Field>
        {mode === 'local' && <LocalFields id={id} jsonData={jsonData} readOnly={readOnly} set={set} />}
        {mode === 'engine' && <EngineFields id={id} jsonData={jsonData} readOnly={readOnly} set={set} />}
        {mode !== 'local' && (
          <AgentsField
            id={id}
            agents={jsonData.agents ?? []}
            required={mode === 'agents'}
            readOnly={readOnly}
            set={set}
          />
        )}
      </FieldSet>
      {mode !== 'local' && (
        <FieldSet label={CONFIG.auth}>
          <Field label={CONFIG.tlsSkipVerify} description={CONFIG.tlsSkipVerifyHelp} htmlFor={`${id}-skip`}>
            <Switch
              id={`${id}-skip`}
              data-testid={selectors.config('tlsSkipVerify')}
              disabled={readOnly}
              value={jsonData.tlsSkipVerify ?? false}
              onChange={(event) => set({ tlsSkipVerify: event.currentTarget.checked })}
            />
          </Field>
          <Field label={CONFIG.tlsServerName} description={CONFIG.tlsServerNameHelp} htmlFor={`${id}-name`}>
            <Input
              id={`${id}-name`}
              data-testid={selectors.config('tlsServerName')}
              disabled={readOnly}
              width={WIDTH}
              value={jsonData.tlsServerName ?? ''}
              onChange={(event) => set({ tlsServerName: event.currentTarget.value || undefined })}
            />
          </Field>
          <Secrets id={id} options={options} onOptionsChange={onOptionsChange} />
        </FieldSet>
      )}
    </div>
  );
}

interface FieldsProps {
  id: string;
  readOnly: boolean;
  set: (news: Partial<ScopeOptions>) => void;
}

function LocalFields({ id, jsonData, readOnly, set }: FieldsProps & { jsonData: ScopeOptions }) {
  return (
    <>
      <Field label={CONFIG.socket} description={CONFIG.socketHelp} htmlFor={`${id}-socket`}>
        <Input
          id={`${id}-socket`}
          data-testid={selectors.config('socketPath')}
          disabled={readOnly}
          width={WIDTH}
          placeholder={CONFIG.socketPlaceholder}
          value={jsonData.socketPath ?? ''}
          onChange={(event) => set({ socketPath: event.currentTarget.value || undefined })}
        />
      </Field>
      <Field label={CONFIG.startAgent} description={CONFIG.startAgentHelp} htmlFor={`${id}-start`}>
        <Switch
          id={`${id}-start`}
          data-testid={selectors.config('startAgent')}
          disabled={readOnly}
          value={jsonData.startAgent ?? true}
          onChange={(event) => set({ startAgent: event.currentTarget.checked })}
        />
      </Field>
      <Field label={CONFIG.privileges} description={CONFIG.privilegesText}>
        <Stack direction="column" gap={1}>
          <Command text={CONFIG.privilegesCommand} />
          <Text variant="bodySmall" color="secondary">
            {CONFIG.privilegesOr}
          </Text>
          <Command text={CONFIG.privilegesService} />
          <Text variant="bodySmall" color="secondary">
            {CONFIG.privilegesAfter}
          </Text>
        </Stack>
      </Field>
    </>
  );
}

function Command({ text }: { text: string }) {
  return (
    <Stack direction="row" alignItems="center" gap={1}>
      <code data-testid={selectors.privilegesCommand}>{text}</code>
      <ClipboardButton
        aria-label={`${CONFIG.copy}: ${text}`}
        icon="copy"
        size="sm"
        variant="secondary"
        fill="text"
        getText={() => text}
      />
    </Stack>
  );
}

function AgentsField({ id, agents, required, readOnly, set }: FieldsProps & { agents: string[]; required: boolean }) {
  const [text, setText] = useState(agents.join('\n'));
  const lines = text
    .split('\n')
    .map((line) => line.trim())
    .filter(Boolean);
  const bad = lines.find((line) => !isUrl(line));
  const error = required && lines.length === 0 ? CONFIG.noAgents : bad !== undefined ? CONFIG.badUrl(bad) : undefined;
  return (
    <Field
      label={required ? CONFIG.agents : CONFIG.engineAgents}
      description={required ? CONFIG.agentsHelp : CONFIG.engineAgentsHelp}
      htmlFor={`${id}-agents`}
      required={required}
      invalid={error !== undefined}
      error={error}
    >
      <TextArea
        id={`${id}-agents`}
        data-testid={selectors.config('agents')}
        disabled={readOnly}
        cols={WIDTH}
        rows={Math.max(3, lines.length + 1)}
        placeholder={CONFIG.agentsPlaceholder}
        value={text}
        onChange={(event) => {
          setText(event.currentTarget.value);
          set({
            agents: event.currentTarget.value
              .split('\n')
              .map((line) => line.trim())
              .filter(Boolean),
          });
        }}
      />
    </Field>
  );
}

function EngineFields({ id, jsonData, readOnly, set }: FieldsProps & { jsonData: ScopeOptions }) {
  const url = jsonData.engineUrl ?? '';
  const bad = url !== '' && !isUrl(url);
  return (
    <>
      <Field
        label={CONFIG.engine}
        description={CONFIG.engineHelp}
        htmlFor={`${id}-engine`}
        required
        invalid={bad}
        error={bad && CONFIG.badUrl(url)}
      >
        <Input
          id={`${id}-engine`}
          data-testid={selectors.config('engineUrl')}
          disabled={readOnly}
          width={WIDTH}
          placeholder={CONFIG.enginePlaceholder}
          value={url}
          onChange={(event) => set({ engineUrl: event.currentTarget.value.trim() || undefined })}
        />
      </Field>
      <Field label={CONFIG.scrapeInterval} description={CONFIG.scrapeIntervalHelp} htmlFor={`${id}-scrape`}>
        <Input
          id={`${id}-scrape`}
          data-testid={selectors.config('scrapeInterval')}
          disabled={readOnly}
          width={WIDTH}
          placeholder={CONFIG.scrapeIntervalPlaceholder}
          value={jsonData.scrapeInterval ?? ''}
          onChange={(event) => set({ scrapeInterval: event.currentTarget.value.trim() || undefined })}
        />
      </Field>
    </>
  );
}

const PEMS: Array<{ key: keyof ScopeSecureOptions; label: string; pem: string }> = [
  { key: 'tlsCACert', label: CONFIG.tlsCACert, pem: CONFIG.pem('BEGIN CERTIFICATE') },
  { key: 'tlsClientCert', label: CONFIG.tlsClientCert, pem: CONFIG.pem('BEGIN CERTIFICATE') },
  { key: 'tlsClientKey', label: CONFIG.tlsClientKey, pem: CONFIG.pem('BEGIN PRIVATE KEY') },
];

function Secrets({ id, options, onOptionsChange }: Props & { id: string }) {
  const { secureJsonData = {}, secureJsonFields = {}, readOnly } = options;
  const write = (key: keyof ScopeSecureOptions, value: string) =>
    onOptionsChange({ ...options, secureJsonData: { ...secureJsonData, [key]: value } });
  const reset = (key: keyof ScopeSecureOptions) =>
    onOptionsChange({
      ...options,
      secureJsonFields: { ...secureJsonFields, [key]: false },
      secureJsonData: { ...secureJsonData, [key]: '' },
    });
  return (
    <>
      <Field label={CONFIG.token} htmlFor={`${id}-token`}>
        <SecretInput
          id={`${id}-token`}
          data-testid={selectors.config('token')}
          disabled={readOnly}
          width={WIDTH}
          placeholder={CONFIG.tokenPlaceholder}
          isConfigured={Boolean(secureJsonFields.token)}
          value={secureJsonData.token ?? ''}
          onChange={(event) => write('token', event.currentTarget.value)}
          onReset={() => reset('token')}
        />
      </Field>
      {PEMS.map(({ key, label, pem }) => (
        <Field key={key} label={label} htmlFor={`${id}-${key}`}>
          <SecretTextArea
            id={`${id}-${key}`}
            data-testid={selectors.config(key)}
            disabled={readOnly}
            cols={WIDTH}
            rows={4}
            placeholder={pem}
            isConfigured={Boolean(secureJsonFields[key])}
            value={secureJsonData[key] ?? ''}
            onChange={(event) => write(key, event.currentTarget.value)}
            onReset={() => reset(key)}
          />
        </Field>
      ))}
    </>
  );
}

/** Whether a text is an address; `host:port` alone means http. */
function isUrl(text: string): boolean {
  try {
    const { protocol, hostname } = new URL(text.includes('://') ? text : `http://${text}`);
    return (protocol === 'http:' || protocol === 'https:') && hostname !== '';
  } catch {
    return false;
  }
}
