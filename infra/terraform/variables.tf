variable "name" {
  description = "Prefix of everything that is made here"
  type        = string
  default     = "routing-pipeline"

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{1,30}$", var.name))
    error_message = "Use 2 to 31 lower-case letters, digits and hyphens, beginning with a letter."
  }
}

variable "bucket" {
  description = "Name of the bucket that is made for the warehouse, published rule sets and the output of runs; unique in all of AWS"
  type        = string
}

variable "logs_bucket" {
  description = "Bucket that the gateway writes its logs to; it exists already and is only ever read"
  type        = string
}

variable "logs_prefix" {
  description = "Prefix of the logs in it, without a slash at its ends"
  type        = string

  validation {
    condition     = length(var.logs_prefix) > 0 && !startswith(var.logs_prefix, "/") && !endswith(var.logs_prefix, "/")
    error_message = "Name a prefix, without a slash at its beginning or end: the role reads nothing else of that bucket."
  }
}

variable "feedback_prefix" {
  description = "Prefix of scores in the same bucket, without a slash at its ends; null when there are none"
  type        = string
  default     = null
}

variable "logs_kms_key_arn" {
  description = "KMS key that the logs are encrypted with; null when they are not, or with S3's own"
  type        = string
  default     = null
}

variable "oidc_provider_arn" {
  description = "OIDC provider of the EKS cluster; null when nothing in Kubernetes takes the role"
  type        = string
  default     = null
}

variable "namespace" {
  description = "Kubernetes namespace of the deployment"
  type        = string
  default     = "routing-pipeline"
}

variable "service_account" {
  description = "Kubernetes service account of the deployment (infra/helm/values.yaml)"
  type        = string
  default     = "routing-pipeline"
}

variable "trusted_principals" {
  description = "ARNs that may take the role besides, such as an instance's role"
  type        = list(string)
  default     = []

  validation {
    condition     = alltrue([for arn in var.trusted_principals : startswith(arn, "arn:") && !strcontains(arn, "*")])
    error_message = "Name each principal by its ARN, without wildcards."
  }
}

variable "permissions_boundary" {
  description = "Permissions boundary that your organisation asks for; null when it asks for none"
  type        = string
  default     = null
}

variable "old_versions_days" {
  description = "Days for which what was overwritten or deleted can be brought back"
  type        = number
  default     = 30
}

variable "run_output_days" {
  description = "Days for which what runs print is kept"
  type        = number
  default     = 90
}

variable "tags" {
  description = "Tags of everything that is made here"
  type        = map(string)
  default     = {}
}
