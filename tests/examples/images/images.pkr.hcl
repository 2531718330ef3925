# Two images on one base; the packages of one come from a mirror that may be down.

source "null" "db" {
  communicator = "none"
}

source "null" "web" {
  communicator = "none"
}

build {
  sources = ["source.null.db", "source.null.web"]

  provisioner "shell-local" {
    script = "install.sh"
  }
}
