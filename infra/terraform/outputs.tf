output "bucket" {
  description = "computeLogManager's bucket in infra/helm/values.yaml"
  value       = aws_s3_bucket.warehouse.id
}

output "role_arn" {
  description = "The service account's annotation in infra/helm/values.yaml"
  value       = aws_iam_role.pipeline.arn
}

output "kms_key_arn" {
  description = "Key of the bucket, for whoever else may read it"
  value       = aws_kms_key.warehouse.arn
}

output "settings" {
  description = "For infra/kubernetes/settings.yaml"
  value = {
    ROUTING_PIPELINE_LOGS      = "s3://${var.logs_bucket}/${var.logs_prefix}"
    ROUTING_PIPELINE_FEEDBACK  = var.feedback_prefix == null ? "" : "s3://${var.logs_bucket}/${var.feedback_prefix}"
    ROUTING_PIPELINE_WAREHOUSE = "s3://${aws_s3_bucket.warehouse.id}/${local.warehouse}"
    ROUTING_PIPELINE_PUBLISH   = "s3://${aws_s3_bucket.warehouse.id}/${local.rule_sets}"
  }
}
