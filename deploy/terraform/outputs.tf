output "datasource_uid" {
  description = "Uid of the data source, for boards and rules of your own."
  value       = grafana_data_source.pscope.uid
}

output "folder_uid" {
  description = "Uid of the folder with boards and rules."
  value       = grafana_folder.pscope.uid
}
