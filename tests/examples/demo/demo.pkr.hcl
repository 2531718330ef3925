# Two sources that need no cloud: a file with a greeting, and a machine that is not there.

variable "greeting" {
  type    = string
  default = "Hello from Packer"
}

source "file" "greeting" {
  content = "${var.greeting}\n"
  target  = "greeting.txt"
}

source "null" "machine" {
  communicator = "none"
}

build {
  sources = ["source.file.greeting", "source.null.machine"]

  provisioner "shell-local" {
    inline = ["echo installing on $PACKER_BUILD_NAME"]
  }

  provisioner "shell-local" {
    script = "check.sh"
  }

  post-processor "checksum" {
    checksum_types = ["sha256"]
    output         = "greeting.{{.ChecksumType}}"
    only           = ["file.greeting"]
  }

  post-processor "manifest" {
    output = "manifest.json"
  }
}
