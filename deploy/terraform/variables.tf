variable "mode" {
  description = "What the data source asks: local (the agent beside Grafana), agents (by address) or engine (Prometheus, Mimir, Thanos or VictoriaMetrics)."
  type        = string
  default     = "agents"

  validation {
    condition     = contains(["local", "agents", "engine"], var.mode)
    error_message = "mode must be local, agents or engine."
  }
}

variable "agents" {
  description = "Addresses of agents, for example [\"https://node-1:9477\"]. In mode engine they are optional and give live data and raw intervals."
  type        = list(string)
  default     = []
}

variable "engine_url" {
  description = "Address of the Prometheus-compatible engine in mode engine, for example http://prometheus:9090."
  type        = string
  default     = ""
}

variable "token" {
  description = "Token that the agents ask for (--token-file). Stored encrypted by Grafana, and in the state of Terraform: protect that."
  type        = string
  default     = ""
  sensitive   = true
}

variable "tls" {
  description = "PEM texts: authority of the servers' certificates, and certificate and key of this client (mTLS)."
  type = object({
    ca_cert     = optional(string, "")
    client_cert = optional(string, "")
    client_key  = optional(string, "")
  })
  default   = {}
  sensitive = true
}

variable "folder" {
  description = "Title of the folder for boards and rules."
  type        = string
  default     = "P-Scope"
}

variable "rules" {
  description = "Whether to create the alert rules."
  type        = bool
  default     = true
}

variable "webhook_url" {
  description = "Where alerts are sent. Empty: no contact point is created."
  type        = string
  default     = ""
  sensitive   = true
}

variable "own_notification_policy" {
  description = "Whether P-Scope may own the tree of notification policies: a provisioned one replaces the whole tree of the organization. Needs webhook_url."
  type        = bool
  default     = false
}
