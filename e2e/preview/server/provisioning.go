package main

import (
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sort"
	"strings"
	"sync"
	"time"

	"github.com/grafana/grafana-plugin-sdk-go/backend"
	"go.yaml.in/yaml/v3"
)

const pluginID = "pscope-pscope-datasource"

// dataSource is one data source as Grafana's provisioning files have it.
type dataSource struct {
	ID             int64             `yaml:"-" json:"id"`
	UID            string            `yaml:"uid" json:"uid"`
	Name           string            `yaml:"name" json:"name"`
	Type           string            `yaml:"type" json:"type"`
	URL            string            `yaml:"url" json:"url"`
	IsDefault      bool              `yaml:"isDefault" json:"isDefault"`
	JSONData       map[string]any    `yaml:"jsonData" json:"jsonData"`
	SecureJSONData map[string]string `yaml:"secureJsonData" json:"-"`
	Updated        time.Time         `yaml:"-" json:"-"`
}

// instanceSettings is what Grafana's plugin protocol calls a data source.
func (d dataSource) instanceSettings() (*backend.DataSourceInstanceSettings, error) {
	jsonData, err := json.Marshal(d.JSONData)
	if err != nil {
		return nil, fmt.Errorf("jsonData of data source %s: %w", d.UID, err)
	}
	return &backend.DataSourceInstanceSettings{
		ID: d.ID, UID: d.UID, Type: d.Type, Name: d.Name, URL: d.URL,
		JSONData: jsonData, DecryptedSecureJSONData: d.SecureJSONData, Updated: d.Updated,
	}, nil
}

// settings holds the data sources; the config editor changes them in memory, never on disk.
type settings struct {
	mu   sync.Mutex
	list []dataSource
}

func (s *settings) All() []dataSource {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]dataSource(nil), s.list...)
}

func (s *settings) Get(uid string) (dataSource, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var have []string
	for _, d := range s.list {
		if d.UID == uid {
			return d, nil
		}
		have = append(have, d.UID)
	}
	return dataSource{}, fmt.Errorf("no data source with uid %q is provisioned (there are: %s)", uid,
		strings.Join(have, ", "))
}

// Update replaces what the config editor edits. Secure values that are not given stay as they are, as in Grafana.
func (s *settings) Update(uid, name string, jsonData map[string]any, secure map[string]string) (dataSource, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := range s.list {
		d := &s.list[i]
		if d.UID != uid {
			continue
		}
		if name != "" {
			d.Name = name
		}
		d.JSONData = jsonData
		merged := make(map[string]string, len(d.SecureJSONData)+len(secure))
		for k, v := range d.SecureJSONData {
			merged[k] = v
		}
		for k, v := range secure {
			if v == "" {
				delete(merged, k)
			} else {
				merged[k] = v
			}
		}
		d.SecureJSONData = merged
		d.Updated = time.Now()
		return *d, nil
	}
	return dataSource{}, fmt.Errorf("no data source with uid %q is provisioned", uid)
}

// readDataSources reads the P-Scope data sources of dir/datasources/*.yaml; others (Prometheus beside it, say) are left
// out, since the preview can't run their plugins. A non-empty socket replaces jsonData.socketPath, so that a test can
// bring its own agent.
func readDataSources(dir, socket string) (*settings, error) {
	files, err := yamlFiles(filepath.Join(dir, "datasources"))
	if err != nil {
		return nil, err
	}
	s := &settings{}
	for _, file := range files {
		raw, err := os.ReadFile(file)
		if err != nil {
			return nil, err
		}
		var doc yaml.Node
		if err := yaml.Unmarshal(raw, &doc); err != nil {
			return nil, fmt.Errorf("%s is not valid YAML: %w", file, err)
		}
		expandEnv(&doc)
		var content struct {
			Datasources []dataSource `yaml:"datasources"`
		}
		if err := doc.Decode(&content); err != nil {
			return nil, fmt.Errorf("%s: %w", file, err)
		}
		for _, d := range content.Datasources {
			if d.Type != pluginID {
				continue
			}
			if d.UID == "" {
				return nil, fmt.Errorf("%s: the data source %q has no uid; boards refer to it by uid, so give it one",
					file, d.Name)
			}
			if d.JSONData == nil {
				d.JSONData = map[string]any{}
			}
			if socket != "" {
				d.JSONData["socketPath"] = socket
			}
			d.ID = int64(len(s.list) + 1)
			d.Updated = time.Now()
			s.list = append(s.list, d)
		}
	}
	if len(s.list) == 0 {
		return nil, fmt.Errorf("no data source of type %s in %s/datasources/*.yaml", pluginID, dir)
	}
	return s, nil
}

// expandEnv replaces $NAME and ${NAME} in scalar values, and $$ by $, as Grafana's provisioning does.
func expandEnv(n *yaml.Node) {
	if n.Kind == yaml.ScalarNode && strings.Contains(n.Value, "$") {
		const dollar = "\x00"
		n.Value = strings.ReplaceAll(os.ExpandEnv(strings.ReplaceAll(n.Value, "$$", dollar)), dollar, "$")
	}
	for _, child := range n.Content {
		expandEnv(child)
	}
}

// readDashboards returns the boards of dir/dashboards, sub-folders included, sorted by title. None is not an error.
func readDashboards(dir string) ([]json.RawMessage, error) {
	type board struct {
		title string
		raw   json.RawMessage
	}
	var boards []board
	root := filepath.Join(dir, "dashboards")
	err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() || filepath.Ext(path) != ".json" {
			return err
		}
		raw, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		var head struct {
			Title  string            `json:"title"`
			Panels []json.RawMessage `json:"panels"`
		}
		if err := json.Unmarshal(raw, &head); err != nil {
			return fmt.Errorf("%s is not a dashboard: %w", path, err)
		}
		if head.Panels != nil {
			boards = append(boards, board{head.Title, raw})
		}
		return nil
	})
	if err != nil && !os.IsNotExist(err) {
		return nil, err
	}
	sort.Slice(boards, func(i, j int) bool { return boards[i].title < boards[j].title })
	out := make([]json.RawMessage, len(boards))
	for i, b := range boards {
		out[i] = b.raw
	}
	return out, nil
}

func yamlFiles(dir string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("the provisioning folder can't be read: %w", err)
	}
	var files []string
	for _, e := range entries {
		if ext := filepath.Ext(e.Name()); ext == ".yaml" || ext == ".yml" {
			files = append(files, filepath.Join(dir, e.Name()))
		}
	}
	return files, nil
}
