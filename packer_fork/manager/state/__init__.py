"""Operations on one recorded state: each module is a group of ``packer-fork state`` commands."""
