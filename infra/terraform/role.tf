# One role: reads the logs' prefix, reads and writes its own bucket's three prefixes, and nothing else.

data "aws_s3_bucket" "logs" {
  bucket = var.logs_bucket
}

locals {
  read_prefixes = compact([var.logs_prefix, var.feedback_prefix])
  own_prefixes  = [local.warehouse, local.rule_sets, local.run_output]
  oidc_issuer   = var.oidc_provider_arn == null ? null : split("oidc-provider/", var.oidc_provider_arn)[1]
}

data "aws_iam_policy_document" "trust" {
  dynamic "statement" {
    for_each = var.oidc_provider_arn == null ? [] : [var.oidc_provider_arn]

    content {
      sid     = "ServiceAccount"
      actions = ["sts:AssumeRoleWithWebIdentity"]

      principals {
        type        = "Federated"
        identifiers = [statement.value]
      }

      condition {
        test     = "StringEquals"
        variable = "${local.oidc_issuer}:sub"
        values   = ["system:serviceaccount:${var.namespace}:${var.service_account}"]
      }

      condition {
        test     = "StringEquals"
        variable = "${local.oidc_issuer}:aud"
        values   = ["sts.amazonaws.com"]
      }
    }
  }

  dynamic "statement" {
    for_each = length(var.trusted_principals) == 0 ? [] : [var.trusted_principals]

    content {
      sid     = "Principals"
      actions = ["sts:AssumeRole"]

      principals {
        type        = "AWS"
        identifiers = statement.value
      }
    }
  }
}

resource "aws_iam_role" "pipeline" {
  name                 = var.name
  description          = "Reads gateway logs, keeps the lake of ${var.name}"
  assume_role_policy   = data.aws_iam_policy_document.trust.json
  permissions_boundary = var.permissions_boundary
  max_session_duration = 43200
  tags                 = local.tags

  lifecycle {
    precondition {
      condition     = var.oidc_provider_arn != null || length(var.trusted_principals) > 0
      error_message = "Name the cluster's OIDC provider or a trusted principal: otherwise nobody can take the role."
    }
  }
}

data "aws_iam_policy_document" "pipeline" {
  statement {
    sid       = "ListLogs"
    actions   = ["s3:ListBucket"]
    resources = [data.aws_s3_bucket.logs.arn]

    condition {
      test     = "StringLike"
      variable = "s3:prefix"
      values   = flatten([for prefix in local.read_prefixes : [prefix, "${prefix}/*"]])
    }
  }

  statement {
    sid       = "ReadLogs"
    actions   = ["s3:GetObject"]
    resources = [for prefix in local.read_prefixes : "${data.aws_s3_bucket.logs.arn}/${prefix}/*"]
  }

  # Without a condition on the prefix: S3 answers that an object is not there (and not that it is forbidden) only to whoever may
  # list the bucket whatever the prefix, and the bucket holds nothing else.
  statement {
    sid       = "ListOwn"
    actions   = ["s3:ListBucket"]
    resources = [aws_s3_bucket.warehouse.arn]
  }

  statement {
    sid       = "ReadAndWriteOwn"
    actions   = ["s3:GetObject", "s3:PutObject", "s3:DeleteObject", "s3:AbortMultipartUpload", "s3:ListMultipartUploadParts"]
    resources = [for prefix in local.own_prefixes : "${aws_s3_bucket.warehouse.arn}/${prefix}/*"]
  }

  statement {
    sid       = "UseOwnKey"
    actions   = ["kms:Decrypt", "kms:GenerateDataKey"]
    resources = [aws_kms_key.warehouse.arn]
  }

  dynamic "statement" {
    for_each = var.logs_kms_key_arn == null ? [] : [var.logs_kms_key_arn]

    content {
      sid       = "DecryptLogs"
      actions   = ["kms:Decrypt"]
      resources = [statement.value]
    }
  }
}

resource "aws_iam_role_policy" "pipeline" {
  name   = var.name
  role   = aws_iam_role.pipeline.id
  policy = data.aws_iam_policy_document.pipeline.json
}
