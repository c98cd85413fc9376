# P-Scope in a Grafana: data source, boards, alert rules and, if asked for, the way to people. The plugin itself must be installed in
# Grafana already; boards and rules are those of provisioning/, so that there is one source of them.

locals {
  # The uid that the alert rules ask for.
  datasource_uid = "pscope"

  provisioning = "${path.module}/../../provisioning"
  rule_groups  = yamldecode(file("${local.provisioning}/alerting/pscope-rules.yaml")).groups

  # "10s", "1m" and "1h" in seconds.
  unit_seconds = { s = 1, m = 60, h = 3600 }

  secrets = {
    token         = var.token
    tlsCACert     = var.tls.ca_cert
    tlsClientCert = var.tls.client_cert
    tlsClientKey  = var.tls.client_key
  }
}

resource "grafana_data_source" "pscope" {
  type = "pscope-pscope-datasource"
  name = "P-Scope"
  uid  = local.datasource_uid

  json_data_encoded = jsonencode(merge(
    { mode = var.mode },
    length(var.agents) > 0 ? { agents = var.agents } : {},
    var.engine_url != "" ? { engineUrl = var.engine_url } : {},
  ))

  # What is empty must be left out: an empty secret is one that is set.
  secure_json_data_encoded = jsonencode({ for name, value in local.secrets : name => value if value != "" })

  lifecycle {
    precondition {
      condition     = var.mode != "agents" || length(var.agents) > 0
      error_message = "mode agents needs at least one address in agents."
    }
    precondition {
      condition     = var.mode != "engine" || var.engine_url != ""
      error_message = "mode engine needs engine_url."
    }
  }
}

resource "grafana_folder" "pscope" {
  title = var.folder
  uid   = "pscope"
}

resource "grafana_dashboard" "board" {
  for_each = fileset("${local.provisioning}/dashboards", "*.json")

  folder      = grafana_folder.pscope.uid
  config_json = file("${local.provisioning}/dashboards/${each.value}")
  overwrite   = true
}

resource "grafana_rule_group" "rules" {
  for_each = { for group in local.rule_groups : group.name => group if var.rules }

  name             = each.value.name
  folder_uid       = grafana_folder.pscope.uid
  interval_seconds = tonumber(regex("^[0-9]+", each.value.interval)) * local.unit_seconds[regex("[smh]$", each.value.interval)]

  dynamic "rule" {
    for_each = each.value.rules

    content {
      name           = rule.value.title
      condition      = rule.value.condition
      for            = rule.value.for
      no_data_state  = rule.value.noDataState
      exec_err_state = rule.value.execErrState
      annotations    = rule.value.annotations
      labels         = rule.value.labels

      dynamic "data" {
        for_each = rule.value.data

        content {
          ref_id         = data.value.refId
          datasource_uid = data.value.datasourceUid
          model          = jsonencode(data.value.model)

          relative_time_range {
            from = data.value.relativeTimeRange.from
            to   = data.value.relativeTimeRange.to
          }
        }
      }
    }
  }

  depends_on = [grafana_data_source.pscope, grafana_dashboard.board]
}

resource "grafana_contact_point" "pscope" {
  count = nonsensitive(var.webhook_url != "") ? 1 : 0

  name = "pscope"

  webhook {
    url = var.webhook_url
  }
}

resource "grafana_notification_policy" "pscope" {
  count = var.own_notification_policy ? 1 : 0

  contact_point = grafana_contact_point.pscope[0].name
  group_by      = ["grafana_folder", "alertname"]

  policy {
    contact_point = grafana_contact_point.pscope[0].name
    # One message per process, not one per P.
    group_by        = ["alertname", "host", "process", "process_pid"]
    group_wait      = "10s"
    group_interval  = "1m"
    repeat_interval = "4h"

    matcher {
      label = "source"
      match = "="
      value = "p-scope"
    }
  }
}
